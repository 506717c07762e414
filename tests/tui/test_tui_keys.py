"""Every key does what its description says."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from recorded_run import (
    StubSource,
    events_until_midway,
    events_with_failure,
    make_monitor,
    recorded_events,
    wait_until_drawn,
)
from textual.binding import Binding
from textual.pilot import Pilot
from textual.widgets import ContentSwitcher, Input
from tickdsl.tui import Monitor, ReplayMonitor, ReplaySource
from tickdsl.tui.screens.compare import CompareView
from tickdsl.tui.screens.confirm import Confirm
from tickdsl.tui.screens.detail import Detail
from tickdsl.tui.screens.layers import LayersView
from tickdsl.tui.screens.log import LogView
from tickdsl.tui.screens.plan import PlanView
from tickdsl.tui.screens.run import RunView
from tickdsl.tui.widgets.chart import Chart
from tickdsl.tui.widgets.rows import Rows

from tickdsl.records import EventRecord, Process
from tickdsl.records.events import ControlAck

Test = Callable[[Any, Pilot[None]], Awaitable[None]]
ALL = (Monitor, ReplayMonitor, RunView, LayersView, CompareView, PlanView, LogView, Rows, Detail, Confirm)


def drive(test: Test, app: Monitor | None = None, size: tuple[int, int] = (120, 36)) -> None:
    """Run a test in a headless monitor."""

    async def run() -> None:
        driven = app or make_monitor()
        async with driven.run_test(size=size) as pilot:
            await wait_until_drawn(driven, pilot)
            await test(driven, pilot)

    asyncio.run(run())


def title(app: Monitor) -> str:
    line = app.screen_stack[0].query_one("#title")
    return line.render_line(0).text


def tree(app: Monitor) -> Rows:
    return app.screen_stack[0].query_one("#tree", Rows)


def test_every_binding_has_an_id_of_its_own() -> None:
    for kind in ALL:
        bindings = [binding for binding in kind.BINDINGS if not isinstance(binding, tuple)]
        assert len(bindings) == len(kind.BINDINGS)
        ids = [binding.id for binding in bindings]
        assert all(ids)
        assert len(set(ids)) == len(ids)


@pytest.mark.slow
def test_numbers_bring_up_the_screens() -> None:
    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        for key, name in (("2", "layers"), ("3", "compare"), ("4", "plan"), ("5", "log"), ("1", "run")):
            await pilot.press(key)
            assert app.query_one(ContentSwitcher).current == name
            assert app.focused is not None
            assert app.focused in app.view.walk_children()

    drive(test)


@pytest.mark.slow
def test_moving_and_folding_in_the_tree() -> None:
    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        rows = tree(app)
        await pilot.press("g")
        assert rows.cursor == 0
        await pilot.press("j", "down")
        assert rows.cursor == 2
        await pilot.press("k", "up")
        assert rows.cursor == 0
        await pilot.press("pagedown")
        assert rows.cursor > 5
        await pilot.press("pageup", "G")
        assert rows.cursor == len(rows.rows) - 1
        await pilot.press("home", "j")
        before = len(rows.rows)
        await pilot.press("h")
        assert len(rows.rows) < before
        assert rows.row.path == ("imp",)
        await pilot.press("right")
        assert len(rows.rows) == before
        await pilot.press("enter")
        assert len(rows.rows) < before
        await pilot.press("end")
        assert rows.cursor == len(rows.rows) - 1

    drive(test)


def test_left_collapses_the_parent_of_a_step() -> None:
    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        rows = tree(app)
        assert len(rows.row.path) == 4
        parent = rows.row.path[:3]
        await pilot.press("left")
        assert rows.row.path == parent
        assert not rows.row.open

    drive(test)


def test_enter_opens_a_step_and_escape_closes_it() -> None:
    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(app.screen, Detail)
        assert "status    running" in app.screen.text
        await pilot.press("j", "k", "2")
        assert isinstance(app.screen, Detail)
        await pilot.press("escape")
        assert len(app.screen_stack) == 1

    drive(test)


def test_f_follows_what_runs_again() -> None:
    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        running = tree(app).row.path
        await pilot.press("g")
        assert tree(app).row.path != running
        await pilot.press("f")
        assert tree(app).row.path == running

    drive(test)


def test_v_l_and_r_change_the_chart() -> None:
    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        def chart() -> Any:
            return app.query_one("#chart", Chart).chart

        titles = []
        for _ in range(4):  # all networks of this recording have equal MACs, so there is no chart over them
            titles.append(chart().title)
            await pilot.press("v")
        assert len(set(titles)) == 4
        assert not any("MACs" in title for title in titles)
        assert chart().title == titles[0]
        assert chart().x.log
        await pilot.press("l")
        assert not chart().x.log
        curves = len(chart().curves)
        await pilot.press("r")
        assert len(chart().curves) > curves
        await pilot.press("0")
        assert chart().x.log
        assert len(chart().curves) == curves

    drive(test)


def test_brackets_hide_the_sides() -> None:
    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        await pilot.press("left_square_bracket")
        assert not app.query_one("#left").display
        await pilot.press("right_square_bracket")
        assert app.query_one("#left").display
        assert not app.query_one("#right").display
        await pilot.press("0")
        assert app.query_one("#left").display
        assert app.query_one("#right").display

    drive(test)


@pytest.mark.parametrize("size", [(80, 24), (60, 16)])
def test_in_a_narrow_terminal_a_bracket_turns_to_the_steps_and_back(size: tuple[int, int]) -> None:
    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        assert app.focused is app.query_one("#arms")
        assert not app.query_one("#left").display
        await pilot.press("left_square_bracket")
        assert app.query_one("#left").display
        assert not app.query_one("#right").display
        assert app.focused is tree(app)
        await pilot.press("left_square_bracket")
        assert not app.query_one("#left").display

    drive(test, size=size)


@pytest.mark.slow
def test_an_arm_leads_to_its_layers() -> None:
    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        app.query_one("#arms", Rows).focus()
        await pilot.press("j", "enter")
        await pilot.pause()
        assert app.query_one(ContentSwitcher).current == "layers"
        assert app.query_one(LayersView).selection.arm == "imp"

    drive(test)


def test_layers_go_by_rounds_arms_seeds_and_contestants() -> None:
    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        await pilot.press("2")
        view = app.query_one(LayersView)
        rows = app.query_one("#layer-rows", Rows)
        left = sum(row.weights_left for row in rows.rows)
        await pilot.press("comma")
        assert sum(row.weights_left for row in rows.rows) > left
        await pilot.press("full_stop")
        assert sum(row.weights_left for row in rows.rows) == left
        await pilot.press("right")
        assert view.selection.arm == "imp"
        await pilot.press("h")
        assert view.selection.arm == "colt"
        seed = view.selection.seed
        await pilot.press("n")
        assert view.selection.seed != seed
        await pilot.press("c")
        assert view.selection.contestant == "random-init"
        await pilot.press("0")
        assert view.selection.contestant == "ticket"

    drive(test, make_monitor(recorded_events()))


@pytest.mark.slow
def test_compare_goes_through_tickets_and_views() -> None:
    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        await pilot.press("3")
        panel = app.query_one("#compare-panel")
        assert "smallest winning" in str(panel.border_title)
        await pilot.press("full_stop")
        assert "most accurate" in str(panel.border_title)
        await pilot.press("comma", "comma")
        assert "round 3" in str(panel.border_title)
        rows = app.query_one("#compare-rows", Rows)
        await pilot.press("0")
        with_controls = len(rows.rows)
        await pilot.press("r")
        assert len(rows.rows) < with_controls
        chart = app.query_one("#pareto", Chart)
        assert chart.chart.x.title == "params"
        await pilot.press("v", "l")
        assert chart.chart.x.title == "params"  # all networks have equal MACs
        assert not chart.chart.x.log
        await pilot.press("enter")
        await pilot.pause()
        assert app.query_one(ContentSwitcher).current == "layers"

    drive(test, make_monitor(recorded_events()))


def test_in_a_low_terminal_v_turns_to_the_pareto_view_and_back() -> None:
    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        await pilot.press("3")
        displayed = []
        for _ in range(4):
            displayed.append((app.query_one("#compare-panel").display, app.query_one("#pareto").display))
            await pilot.press("v")
        assert displayed == [(True, False), (False, True), (True, False), (False, True)]

    drive(test, make_monitor(recorded_events()), size=(60, 16))


def test_the_plan_is_marked_and_lines_open() -> None:
    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        await pilot.press("4")
        source = app.query_one("#source", Rows)
        assert [row.text for row in source.rows][1] == "model small-cnn on digits"
        await pilot.press("f")
        assert source.row.arm_indices
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(app.screen, Detail)

    drive(test)


@pytest.mark.slow
def test_the_log_can_be_filtered_and_opened() -> None:
    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        await pilot.press("5")
        rows = app.query_one("#log-rows", Rows)
        total = len(rows.rows)
        assert rows.cursor == total - 1
        await pilot.press("slash", *"imp", "enter")
        assert 0 < len(rows.rows) < total
        assert all("imp" in row.text for row in rows.rows)
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(app.screen, Detail)
        await pilot.press("q")
        await pilot.press("escape")
        assert len(rows.rows) == total
        assert not app.query_one("#filter").display

    drive(test)


def test_the_filter_thins_arms_tree_and_chart() -> None:
    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        await pilot.press("slash", *"imp")
        assert [row.id for row in app.query_one("#arms", Rows).rows] == ["imp"]
        assert {row.path[0] for row in tree(app).rows} == {"imp"}
        assert "imp" in app.query_one("#tabs").render_line(0).text
        await pilot.press("q")
        assert app.query_one("#filter", Input).value == "impq"
        await pilot.press("escape")
        assert len(app.query_one("#arms", Rows).rows) == 2

    drive(test)


def test_space_freezes_the_view_and_counters_go_on() -> None:
    source = StubSource(events_until_midway())
    app = make_monitor([])
    app.feed.source = source

    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        before = app.query_one("#arms", Rows).rows
        steps = app.feed.state.finished_steps
        await pilot.press("space")
        source.records = list(recorded_events()[300:])
        await pilot.pause(0.6)
        assert app.feed.state.finished_steps > steps
        assert app.query_one("#arms", Rows).rows == before
        assert f"frozen, {len(recorded_events()) - 300} new events" in title(app)
        assert f"{app.feed.state.finished_steps}/" in app.screen_stack[0].query_one("#progress").render_line(0).text
        await pilot.press("space")
        assert app.query_one("#arms", Rows).rows != before

    drive(test, app)


@pytest.mark.slow
def test_pause_is_pending_until_the_engine_says_so(tmp_path: Path) -> None:
    control = tmp_path / "control.jsonl"
    source = StubSource(events_until_midway())
    app = make_monitor([], control=control)
    app.feed.source = source

    def last_request() -> dict[str, Any]:
        return json.loads(control.read_text().split("\n")[-2])

    async def answer(pilot: Pilot[None], state: str) -> None:
        last = recorded_events()[299]
        source.records = [
            EventRecord(
                999, last.t, ControlAck(id=last_request()["id"], command=last_request()["command"], state=state)
            )
        ]
        await pilot.pause(0.5)

    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        await pilot.press("p")
        assert last_request()["command"] == "pause"
        assert "pausing…" in title(app)
        await pilot.pause(0.4)
        assert "pausing…" in title(app)
        await answer(pilot, "paused")
        assert "⏸ paused" in title(app)
        await pilot.press("p")
        assert last_request()["command"] == "resume"
        assert "resuming…" in title(app)
        await answer(pilot, "running")
        assert "◐ running" in title(app)

    drive(test, app)


def test_stop_asks_first(tmp_path: Path) -> None:
    control = tmp_path / "control.jsonl"

    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        await pilot.press("x")
        await pilot.pause()
        assert isinstance(app.screen, Confirm)
        await pilot.press("n")
        assert not control.exists()
        await pilot.press("x")
        await pilot.pause()
        await pilot.press("y")
        await pilot.pause()
        assert json.loads(control.read_text())["command"] == "stop"
        assert "stopping…" in title(app)

    drive(test, make_monitor(control=control))


def test_a_run_without_a_control_file_cannot_be_paused(tmp_path: Path) -> None:
    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        await pilot.press("p")
        await pilot.pause()
        assert "pausing" not in title(app)
        assert "cannot be controlled from here" in str([note.message for note in app._notifications])

    drive(test)

    async def over(app: Monitor, pilot: Pilot[None]) -> None:
        await pilot.press("p", "x")
        assert len(app.screen_stack) == 1
        assert not (tmp_path / "control.jsonl").exists()

    drive(over, make_monitor(recorded_events(), control=tmp_path / "control.jsonl"))


@pytest.mark.slow
def test_a_screenshot_lands_in_the_run(tmp_path: Path) -> None:
    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        await pilot.press("s")
        assert [path.suffix for path in tmp_path.iterdir()] == [".svg"]

    drive(test, make_monitor(folder=tmp_path))

    async def refused(app: Monitor, pilot: Pilot[None]) -> None:
        await pilot.press("s")
        assert "Screenshot failed" in str([note.title for note in app._notifications])

    drive(refused, make_monitor(folder=tmp_path / "gone"))


def test_d_changes_the_theme() -> None:
    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        dark = app.palette
        await pilot.press("d")
        assert app.palette != dark
        await pilot.press("d")
        assert app.palette == dark

    drive(test)


@pytest.mark.slow
def test_help_names_every_key_of_the_screen() -> None:
    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        for key, view in (("1", RunView), ("2", LayersView), ("3", CompareView), ("4", PlanView)):
            await pilot.press(key)
            await pilot.press("question_mark")
            await pilot.pause()
            assert isinstance(app.screen, Detail)
            for kind in (Monitor, view, Rows):
                for binding in kind.BINDINGS:
                    assert isinstance(binding, Binding)
                    assert binding.description in app.screen.text
            await pilot.press("escape")

    drive(test)


@pytest.mark.slow
def test_the_palette_knows_screens_keys_and_arms() -> None:
    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        titles = [command.title for command in app.get_system_commands(app.screen)]
        assert {"Show Layers", "Layers of imp", "Switch between dark and light theme"} <= set(titles)
        await pilot.press("ctrl+p")
        await pilot.pause()
        await pilot.press(*"layers of imp")
        await pilot.pause(0.5)
        await pilot.press("enter")
        await pilot.pause(0.5)
        assert app.query_one(ContentSwitcher).current == "layers"
        assert app.query_one(LayersView).selection.arm == "imp"

    drive(test)


def test_q_leaves_with_zero_and_ctrl_c_explains() -> None:
    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        await pilot.press("ctrl+c")
        assert "the run continues" in str([note.message for note in app._notifications])
        await pilot.press("q")
        assert not app.is_running or app._exit

    app = make_monitor()
    drive(test, app)
    assert not app.return_code


@pytest.mark.slow
def test_the_first_failure_is_shown_once() -> None:
    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        await pilot.pause(0.2)
        row = tree(app).row
        assert row.status == "failed"
        assert len(row.path) == 4
        await pilot.press("enter")
        await pilot.pause()
        assert "RuntimeError: no memory" in app.screen.text
        assert "Traceback" in app.screen.text
        await pilot.press("escape", "2")
        await pilot.pause(1.2)
        assert app.query_one(ContentSwitcher).current == "layers"

    drive(test, make_monitor(events_with_failure()))


def test_a_dead_engine_is_shown_as_dead(tmp_path: Path) -> None:
    (tmp_path / "engine.log").write_text("Killed by the kernel\n")
    here = Process.current()
    dead = Process(here.host, here.boot, 2**22 + 1)
    app = Monitor(StubSource([]), folder=tmp_path, engine=dead)

    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        await pilot.pause(0.3)
        assert "crashed" in title(app)
        await pilot.press("5")
        assert [row.text for row in app.query_one("#log-rows", Rows).rows] == ["Killed by the kernel"]

    drive(test, app)


@pytest.mark.slow
def test_the_arrows_of_a_recording_move_its_clock() -> None:
    replay = ReplaySource(recorded_events(), speed=1.0)
    app = ReplayMonitor(replay)

    async def test(app: ReplayMonitor, pilot: Pilot[None]) -> None:
        await pilot.press("space")
        assert not replay.playing
        await pilot.press("home")
        assert app.feed.event_count == 1
        await pilot.press("right", "right", "right")
        assert app.feed.event_count == 4
        await pilot.press("left")
        assert app.feed.event_count == 3
        await pilot.press("shift+right")
        assert recorded_events()[app.feed.event_count - 1].event.type == "step.end"
        await pilot.press("shift+right", "shift+left")
        assert recorded_events()[app.feed.event_count - 1].event.type == "step.end"
        await pilot.press("end")
        assert app.feed.event_count == len(recorded_events())
        assert "⏸ paused" in title(app)
        await pilot.press("plus")
        assert replay.speed == 2
        await pilot.press("minus", "minus")
        assert replay.speed == 1
        await pilot.press("slash", "home", "left", "escape")
        assert app.feed.event_count == len(recorded_events())
        await pilot.press("home", "space")
        assert replay.playing

    drive(test, app)


def test_a_monitor_that_breaks_down_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from tickdsl import tui

    class Broken:
        def poll(self, limit: int | None = None) -> list[EventRecord]:
            raise RuntimeError("no such luck")

    run = Monitor.run
    monkeypatch.setattr(Monitor, "run", lambda self: run(self, headless=True))
    assert tui.watch(Broken()) == 1
