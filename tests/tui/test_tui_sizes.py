"""The run and compare screens of recorded event streams at five sizes, as text against golden files.

`TICKDSL_GOLDEN=write pytest -m "slow or not slow" tests/tui/test_tui_sizes.py` rewrites them: read the diff.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import textual
from recorded_run import (
    StubSource,
    events_early,
    events_of_a_sweep,
    events_of_five_seeds,
    events_until_midway,
    events_with_collapse,
    make_monitor,
    recorded_events,
    wait_until_drawn,
)
from tickdsl.tui import Monitor

from tickdsl.records import EventRecord, Process

GOLDEN = Path(__file__).parent / "golden" / "sizes"
WRITE = os.environ.get("TICKDSL_GOLDEN") == "write"
SIZES = ((60, 16), (80, 24), (100, 30), (120, 36), (200, 50))

pytestmark = pytest.mark.skipif(
    textual.__version__.split(".")[:2] != ["8", "2"], reason="the golden files were made with textual 8.2"
)

STREAMS: dict[str, Callable[[], Any]] = {
    "early": events_early,
    "middle": events_until_midway,
    "two-of-five-seeds": events_of_five_seeds,
    "collapsed": events_with_collapse,
    "swept": events_of_a_sweep,
    "crashed": events_until_midway,
    "ended": recorded_events,
}


@pytest.fixture(autouse=True)
def fixed_time_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("NO_COLOR", raising=False)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def monitor(stream: str, folder: Path) -> Monitor:
    records: list[EventRecord] = list(STREAMS[stream]())
    if stream != "crashed":
        return make_monitor(records)
    (folder / "engine.log").write_text("[0:31] imp, round 3, seed 1: accuracy 96.94%\nKilled\n")
    here = Process.current()
    alive = [r for r in records if r.event.type not in ("heartbeat", "run.start")]
    now = records[-1].t + 0.7
    dead = Process(here.host, here.boot, 2**22 + 1)
    return Monitor(StubSource(alive), folder=folder, engine=dead, clock=lambda: now)


def take(stream: str, folder: Path, theme: str = "tickdsl-dark", sizes: Any = SIZES) -> dict[tuple[int, int], str]:
    """The text of the run screen at each size, after resizing to it."""

    async def run() -> dict[tuple[int, int], str]:
        app, shown = monitor(stream, folder), {}
        app.theme = theme
        async with app.run_test(size=(90, 25), notifications=False) as pilot:
            await wait_until_drawn(app, pilot)
            for size in sizes:
                await pilot.resize_terminal(*size)
                await pilot.pause()
                await wait_until_drawn(app, pilot)
                assert "<svg" in app.export_screenshot()
                strips = app.screen._compositor.render_strips()
                shown[size] = "\n".join("".join(s.text for s in strip).rstrip() for strip in strips)
        return shown

    return asyncio.run(run())


def check(stream: str, folder: Path) -> None:
    shown = take(stream, folder)
    text = "\n".join(f"==== {width}x{height}\n{screen}" for (width, height), screen in shown.items()) + "\n"
    golden = GOLDEN / f"{stream}.txt"
    if WRITE:
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text()


def test_two_of_five_seeds(tmp_path: Path) -> None:
    check("two-of-five-seeds", tmp_path)
    text = (GOLDEN / "two-of-five-seeds.txt").read_text()
    assert "2/5 seeds" in text
    assert "±" not in text


def test_a_crash(tmp_path: Path) -> None:
    check("crashed", tmp_path)
    for screen in (GOLDEN / "crashed.txt").read_text().split("====")[1:]:
        assert "running" not in screen
        assert "To go on: " in screen
    assert "│ Killed" in (GOLDEN / "crashed.txt").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["early", "middle", "collapsed", "swept", "ended"])
def test_a_stream_at_every_size(stream: str, tmp_path: Path) -> None:
    check(stream, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("stream", STREAMS)
def test_themes_and_no_color_show_the_same_text(stream: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = ((60, 16), (120, 36))
    dark = take(stream, tmp_path, sizes=sizes)
    assert take(stream, tmp_path, "tickdsl-light", sizes) == dark
    monkeypatch.setenv("NO_COLOR", "1")
    assert take(stream, tmp_path, sizes=sizes) == dark
