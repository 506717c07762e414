"""Where the monitor says that a mask is another seed's, how it was aligned, and that seeds are not independent."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from linked_run import LINKED_PLAN, TAKEN, linked_events
from recorded_run import make_monitor, snapshot, wait_until_drawn
from textual.pilot import Pilot
from textual.widgets import Static
from tickdsl.tui import Monitor
from tickdsl.tui.screens.detail import Detail
from tickdsl.tui.views import detail, tree
from tickdsl.tui.views.snapshot import Snapshot
from tickdsl.tui.widgets.rows import Rows


@pytest.fixture
def ended(tmp_path: Path) -> Snapshot:
    return snapshot(linked_events(tmp_path))


def screen(app: Monitor) -> str:
    """The text of the screen, with one space for each run of them."""
    strips = app.screen._compositor.render_strips()
    return " ".join(" ".join("".join(piece.text for piece in strip) for strip in strips).split())


def drive(folder: Path, test: Callable[[Monitor, Pilot[None]], Awaitable[None]]) -> None:
    """Run a test in a headless monitor of the run."""

    async def run() -> None:
        app = make_monitor(linked_events(folder), plan_text=LINKED_PLAN)
        async with app.run_test(size=(200, 50), notifications=False) as pilot:
            await wait_until_drawn(app, pilot)
            await test(app, pilot)

    asyncio.run(run())


def aligned_steps(now: Snapshot) -> list[str]:
    return [name for name, step in now.state.steps.items() if step.info.operation == "align"]


def test_an_aligned_mask_is_in_the_tree_at_the_seed_that_it_is_for(ended: Snapshot) -> None:
    expansion = tree.TreeExpansion()
    for _ in range(3):
        for row in tree.tree_rows(ended, expansion):
            expansion = expansion.with_expanded(row.path, True)
    found = {(row.path[0], row.path[1], row.label) for row in tree.tree_rows(ended, expansion) if "align" in row.label}
    assert found == {
        (f"by-{match}", seed, f"align mask of seed {donor} by {match}")
        for match in ("weights", "activations")
        for seed, donor in ((1, 2), (2, 3), (3, 1))
    }


def test_a_ticket_says_whose_mask_it_has(ended: Snapshot) -> None:
    """In the details of its training, by what comes before it."""
    state = ended.state
    tickets = {(m.arm, m.seed): m.step for m in state.measurements if m.contestant == "ticket"}
    for seed, donor in ((1, 2), (2, 3), (3, 1)):
        naive = "\n".join(detail.step_lines(tickets["naive", seed], ended))
        assert f"(prune, round 1, shared by 4 arms, seed {donor})" in naive
        for match in ("weights", "activations"):
            text = "\n".join(detail.step_lines(tickets[f"by-{match}", seed], ended))
            assert f"(align mask of seed {donor} by {match}, round 1, by-{match}, seed {seed})" in text


def test_the_dialog_of_an_aligning_step_names_both_seeds(tmp_path: Path) -> None:
    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        now = app.view.snapshot
        assert now is not None and len(aligned_steps(now)) == 6
        app.push_screen(Detail.of_step(aligned_steps(now)[0], now))
        await pilot.pause()
        text = screen(app)
        assert "align mask of seed 2 by weights, round 1, by-weights, seed 1" in text
        assert "(prune, round 1, shared by 4 arms, seed 2)" in text

    drive(tmp_path, test)


def test_the_end_of_a_run_says_which_seeds_are_not_independent(tmp_path: Path) -> None:
    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        text = str(app.query_one("#ending-text", Static).content)
        sentences = {line.split(":")[0].removeprefix("• "): line for line in text.splitlines()}
        for arm, taken in TAKEN.items():
            assert sentences[arm].endswith(f"; the seeds are not independent: each {taken}")
        assert "independent" not in sentences["own"]
        assert f"each {TAKEN['naive']}" in screen(app)

    drive(tmp_path, test)


def test_the_comparison_says_which_seeds_are_not_independent(tmp_path: Path) -> None:
    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        await pilot.press("3")
        await pilot.pause()
        lines = str(app.query_one("#answers", Static).content).splitlines()
        expected = [f" {arm}: the seeds are not independent: each {taken}" for arm, taken in TAKEN.items()]
        assert lines[-3:] == expected
        assert lines[3].startswith(" no significant difference between naive and by-weights ")
        assert "seeds are not independent: naive, by-weights, by-activations" in screen(app)

    drive(tmp_path, test)


def test_the_plan_has_a_note_on_each_arm_whose_seeds_are_linked(tmp_path: Path) -> None:
    async def test(app: Monitor, pilot: Pilot[None]) -> None:
        await pilot.press("4")
        await pilot.pause()
        notes = app.query_one("#notes", Rows).rows
        linked = [note for note in notes if "are linked" in note]
        assert linked == [
            f"the seeds of `{arm}` are linked: each {taken}; intervals and verdicts treat them as independent"
            for arm, taken in TAKEN.items()
        ]
        assert linked[0] in screen(app) and "aligned by the activations of the dense networks" in screen(app)

    drive(tmp_path, test)
