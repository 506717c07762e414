"""Colours, markers and lines of figures, and the styles paper, slides and dark."""

from __future__ import annotations

import attrs

#: Okabe and Ito's palette, safe for colour-blind readers. In grey print, markers and lines tell arms apart.
ARM_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_BRIGHT_COLOURS = ("#4aa3e8", "#ff8a3d", "#2ecc9a", "#e59fc6", "#f5b942", "#8fd0f5")
#: Of matplotlib: circle, square, triangle, diamond, triangle down, plus.
MARKERS = ("o", "s", "^", "D", "v", "P")
#: Dashes in units of the line's width; None for a solid line.
LINES: tuple[tuple[float, ...] | None, ...] = (None, (6, 1.5), (4, 1.2, 1, 1.2), (8, 1.2, 2, 1.2), (3, 1.2), (1.2, 1))
#: Controls: how the marker of their arm is filled, and their dashes.
CONTROL_FILLS = {
    "random-init": "none", "random-structure": "left", "early": "bottom", "shuffled-mask": "right",
    "by-magnitude": "top", "by-snip": "top", "by-grasp": "top", "by-synflow": "top",
}  # fmt: skip
CONTROL_DASHES = {
    "random-init": (1, 1.5), "random-structure": (1, 3), "early": (3, 1.5, 1, 1.5), "shuffled-mask": (4, 1.5),
    "by-magnitude": (4, 1.5, 1, 1.5), "by-snip": (2, 1), "by-grasp": (2, 2), "by-synflow": (2, 3),
}  # fmt: skip


@attrs.frozen
class Theme:
    """A style: default width in inches and font in points, typeface, colours, and dots per inch of a PNG.

    `families` are tried one after the other for each character; matplotlib brings all of them.
    """

    width: float
    font: float
    dpi: int
    families: tuple[str, ...]
    paper: str
    ink: str
    soft: str
    grid: str
    rest: str
    arms: tuple[str, ...]
    stroke: float = 1.0  # line widths in proportion to the font


_SERIF = ("STIXGeneral", "DejaVu Sans")
_SANS = ("DejaVu Sans",)
THEMES = {
    "paper": Theme(3.3, 8, 300, _SANS, "#ffffff", "#1b1f24", "#57606a", "#d9dde2", "#a0a7af", ARM_COLOURS),
    "slides": Theme(8.0, 14, 200, _SANS, "#ffffff", "#1b1f24", "#57606a", "#d9dde2", "#a0a7af", ARM_COLOURS, 1.25),
    "dark": Theme(8.0, 14, 200, _SANS, "#0f1419", "#e6edf3", "#a3adb8", "#323b45", "#6b7580", _BRIGHT_COLOURS, 1.25),
}
