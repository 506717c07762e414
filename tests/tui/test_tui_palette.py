"""Colours are readable, and arms can be told apart without colour."""

import subprocess
import sys
from itertools import pairwise

import pytest
from tickdsl.tui.views.glyphs import (
    CONTROL_MARKERS,
    DARK,
    HOLLOW_MARKERS,
    LIGHT,
    MARKERS,
    STATUS_GLYPHS,
    Palette,
    arm_marker,
)


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", [DARK, LIGHT], ids=["dark", "light"])
def test_text_stands_out_from_its_ground(palette: Palette) -> None:
    for background in (palette.ground, palette.cursor, palette.rule):
        assert contrast(palette.ink, background) >= 7
    for colour in (
        palette.dim,
        palette.good,
        palette.bad,
        palette.unsure,
        palette.accent,
        *palette.arms,
        *palette.layers,
    ):
        assert contrast(colour, palette.ground) >= 4.5, colour
        assert contrast(colour, palette.cursor) >= 3, colour
    assert contrast(palette.dim, palette.rule) >= 3
    assert contrast(palette.accent, palette.rule) >= 3


def test_arms_differ_in_marker_and_colour() -> None:
    symbols = {(arm_marker(index), DARK.arm(index)) for index in range(42)}
    assert len(symbols) == 42
    assert all(arm_marker(a) != arm_marker(b) for a, b in pairwise(range(200)))
    assert len({*MARKERS, *HOLLOW_MARKERS, *CONTROL_MARKERS}) == 2 * len(MARKERS) + len(CONTROL_MARKERS)
    for palette in (DARK, LIGHT):
        assert not {*palette.arms} & {*palette.layers}


def test_every_step_status_has_its_own_glyph() -> None:
    statuses = ("waiting", "running", "done", "stored", "skipped", "failed", "paused")
    assert len({STATUS_GLYPHS[status] for status in statuses}) == len(statuses)


def test_the_monitor_loads_neither_torch_nor_numpy() -> None:
    code = "import sys, tickdsl.tui; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
