"""Keys work after any resize, and what can be clicked is."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recorded_run import make_monitor, recorded_events, wait_until_drawn
from textual.binding import Binding
from textual.pilot import Pilot
from textual.widgets import ContentSwitcher
from tickdsl.tui import Monitor
from tickdsl.tui.widgets.chart import Chart

SIZES = ((120, 36), (60, 16), (200, 50), (80, 24), (100, 30), (60, 16), (120, 36))


def drive(test: Callable[[Monitor, Pilot[None]], Any], app: Monitor, size: tuple[int, int] = (120, 36)) -> None:
    async def run() -> None:
        async with app.run_test(size=size) as pilot:
            await wait_until_drawn(app, pilot)
            await test(app, pilot)

    asyncio.run(run())


def line(app: Monitor, name: str) -> str:
    return app.screen_stack[0].query_one(name).render_line(0).text


def test_v_and_l_work_after_every_resize() -> None:
    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        for size in SIZES:
            await pilot.resize_terminal(*size)
            await pilot.pause()
            before = app.query_one("#chart", Chart).chart
            assert before is not None
            await pilot.press("l")
            after = app.query_one("#chart", Chart).chart
            assert after is not None
            assert after.x.log != before.x.log, size
            await pilot.press("v", "0")
            await pilot.press("left_square_bracket")  # so that the next resize hides what has the focus

    drive(test, make_monitor())


@pytest.mark.slow
def test_every_key_can_be_pressed_after_every_resize(tmp_path: Path) -> None:
    """No key raises, and a resize leaves none dead: the visible screen keeps the focus."""

    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        for size in SIZES[:5]:
            await pilot.resize_terminal(*size)
            for number, name in enumerate(("run", "layers", "compare", "plan", "log"), 1):
                await pilot.press(str(number))
                await pilot.pause()
                bindings = [b for b in (*app.view.BINDINGS, *app.BINDINGS) if isinstance(b, Binding)]
                keys = [key for b in bindings for key in b.key.split(",")]
                for key in keys:
                    if key in ("q", "ctrl+p", "e", "o") or key.isdigit():
                        continue
                    await pilot.press(key)
                    if len(app.screen_stack) > 1:
                        await pilot.press("escape")
                await pilot.press("escape", str(number))
                assert app.query_one(ContentSwitcher).current == name
                assert app.focused in app.view.walk_children(), (size, name)

    drive(test, make_monitor(folder=tmp_path))


@pytest.mark.parametrize("size", [(120, 36), (60, 16)])
def test_tabs_and_keys_can_be_clicked(size: tuple[int, int]) -> None:
    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        for title, name in (("Layers", "layers"), ("Log", "log"), ("Run", "run")):
            await pilot.click("#tabs", offset=(line(app, "#tabs").index(title) + 1, 0))
            await pilot.pause()
            assert app.query_one(ContentSwitcher).current == name
        before = app.query_one("#chart", Chart).chart
        await pilot.click("#keys", offset=(line(app, "#keys").index("metric") + 1, 0))
        await pilot.pause()
        assert app.query_one("#chart", Chart).chart != before

    drive(test, make_monitor(), size)


def test_the_bar_of_the_whole_run_is_there_at_every_size() -> None:
    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        for size in SIZES:
            await pilot.resize_terminal(*size)
            await pilot.pause()
            text = line(app, "#progress")
            assert "62/80 steps" in text
            assert " left" in text
            assert "█" in text

    drive(test, make_monitor())


def test_the_footer_of_a_run_that_ended_offers_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "there here")
    (tmp_path / "report.html").write_text("<p>")

    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        keys = line(app, "#keys")
        assert "pause" not in keys
        assert "stop" not in keys
        assert "o report" in keys
        panel = str(app.query_one("#ending-text").render())
        assert "The run finished after 0:37" in panel
        assert "no verdict on colt against imp" in panel
        assert "report.html" in panel
        await pilot.press("o")
        assert any("report.html" in str(note.message) for note in app._notifications)

    drive(test, make_monitor(recorded_events(), folder=tmp_path))
