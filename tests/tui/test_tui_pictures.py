"""Screenshots of the screens against golden files.

A golden file holds the text of each line, followed by the styles of its segments, so that diffs are readable.
`TICKDSL_GOLDEN=write pytest tests/tui/test_tui_pictures.py` rewrites them; on a mismatch the screen is saved as SVG.
"""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import textual
from recorded_run import events_with_failure, make_monitor, recorded_events, wait_until_drawn
from rich.segment import Segment
from textual.app import App

GOLDEN = Path(__file__).parent / "golden"
WRITE = os.environ.get("TICKDSL_GOLDEN") == "write"

pytestmark = pytest.mark.skipif(
    textual.__version__.split(".")[:2] != ["8", "2"], reason="the golden files were made with textual 8.2"
)

#: name -> size, keys, theme, recording
SCREENS: dict[str, tuple[tuple[int, int], tuple[str, ...], str, str]] = {
    "run-wide": ((120, 36), (), "tickdsl-dark", "middle"),
    "run-wide-light": ((120, 36), (), "tickdsl-light", "middle"),
    "run-80": ((80, 24), (), "tickdsl-dark", "middle"),
    "run-60": ((60, 16), (), "tickdsl-dark", "middle"),
    "steps-80": ((80, 24), ("left_square_bracket",), "tickdsl-light", "middle"),
    "loss-wide": ((120, 36), ("v", "v", "v"), "tickdsl-dark", "middle"),
    "failed-wide": ((120, 36), (), "tickdsl-dark", "failed"),
    "layers-wide": ((120, 36), ("2",), "tickdsl-dark", "whole"),
    "layers-60": ((60, 16), ("2",), "tickdsl-light", "whole"),
    "compare-wide": ((120, 36), ("3",), "tickdsl-dark", "whole"),
    "compare-80-light": ((80, 24), ("3",), "tickdsl-light", "whole"),
    "compare-60": ((60, 16), ("3",), "tickdsl-dark", "whole"),
    "plan-80": ((80, 24), ("4",), "tickdsl-dark", "middle"),
    "log-80": ((80, 24), ("5",), "tickdsl-dark", "middle"),
    "help-80": ((80, 24), ("question_mark",), "tickdsl-dark", "middle"),
    "before-80": ((80, 24), (), "tickdsl-dark", "nothing"),
}


@pytest.fixture(autouse=True)
def fixed_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("NO_COLOR", raising=False)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def take(size: tuple[int, int], keys: tuple[str, ...], theme: str, recording: str) -> tuple[str, str]:
    """The screen after pressing the keys, as text with styles and as SVG."""
    recordings: dict[str, Any] = {
        "middle": None,
        "whole": recorded_events(),
        "failed": events_with_failure(),
        "nothing": [],
    }

    async def run() -> tuple[str, str]:
        app = make_monitor(recordings[recording])
        app.theme = theme
        async with app.run_test(size=size, notifications=False) as pilot:
            await wait_until_drawn(app, pilot)
            await pilot.press(*keys)
            await pilot.pause()
            app.clear_notifications()
            await wait_until_drawn(app, pilot)
            return screen_text(app), app.export_screenshot(title="tickdsl")

    return asyncio.run(run())


def screen_text(app: App[Any]) -> str:
    lines = []
    for strip in app.screen._compositor.render_strips():
        lines.append("".join(segment.text for segment in strip).rstrip())
        colours = " ".join(f"{len(piece.text)}:{style}" for piece in _pieces(strip) if (style := _colours(piece)))
        lines.append(f"    | {colours}")
    return "\n".join(lines) + "\n"


def _pieces(strip: Any) -> list[Segment]:
    return list(Segment.simplify(Segment(s.text, s.style and s.style.without_color + s.style) for s in strip))


def _colours(piece: Segment) -> str:
    style = piece.style
    if style is None:
        return "-"
    parts = [color.get_truecolor().hex if color is not None else "" for color in (style.color, style.bgcolor)]
    return "/".join(parts) + ("b" if style.bold else "") + ("i" if style.italic else "")


def compare(name: str, text: str, svg: str, folder: Path) -> None:
    golden = GOLDEN / f"{name}.txt"
    if WRITE:
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)
    elif text != golden.read_text():
        (folder / f"{name}.svg").write_text(svg)
        assert text == golden.read_text(), f"the screen is in {folder / name}.svg"


@pytest.mark.parametrize("name", SCREENS)
def test_a_screen_matches_its_golden_file(name: str, tmp_path: Path) -> None:
    compare(name, *take(*SCREENS[name]), tmp_path)


def test_without_colour_nothing_is_lost(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    for name, keys in (("run", ()), ("compare", ("3",)), ("plan", ("4",))):
        text, svg = take((80, 24), keys, "tickdsl-dark", "middle")
        for line in text.splitlines():
            if line.startswith("    | "):
                for colour in line.replace("/", " ").replace(":", " ").split():
                    if colour.startswith("#"):
                        r, g, b = colour[1:3], colour[3:5], colour[5:7]
                        assert r == g == b, f"{name}: {colour}"
        compare(f"{name}-no-color", text, svg, tmp_path)


def test_the_smallest_terminal_shows_the_run() -> None:
    screen, _ = take((60, 16), (), "tickdsl-dark", "middle")
    text = "\n".join(line for line in screen.splitlines() if not line.startswith("    | "))
    assert "running" in text
    assert "colt" in text
    assert "? help" in text
