"""Fits text into a width: measured, cut in the middle, or wrapped."""

from __future__ import annotations

import warnings

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from tickdsl.figures.options import FigureOptions

#: The font of captions and tick labels, in proportion to that of other text.
SMALL = 0.9


def text_width(text: str, options: FigureOptions, scale: float = 1.0, weight: str = "normal") -> float:
    """The width of a text in points."""
    properties = FontProperties(family=list(options.theme.families), size=options.font * scale, weight=weight)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(text_to_path.get_text_width_height_descent(text, properties, ismath=False)[0])


def cut_middle(text: str, width: float, options: FigureOptions) -> str:
    """The text, with its middle left out if it is wider than `width` points."""
    if text_width(text, options) <= width:
        return text
    kept = len(text) - 1
    while kept > 2 and text_width(_cut(text, kept), options) > width:
        kept -= 1
    return _cut(text, kept)


def _cut(text: str, kept: int) -> str:
    return f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"


def wrap(text: str, width: float, options: FigureOptions, scale: float = 1.0, weight: str = "normal") -> list[str]:
    """Lines of a text, broken at spaces; a word that is wider than a line is cut."""
    lines: list[str] = []
    for word in text.split():
        if lines and text_width(f"{lines[-1]} {word}", options, scale, weight) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(cut_middle(word, width / scale, options))
    return lines
