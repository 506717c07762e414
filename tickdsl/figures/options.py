"""How a figure is to look: its kind, size and style, and what it shows."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import attrs

from tickdsl.errors import TickdslError
from tickdsl.figures.axis_limits import ScoreAxis
from tickdsl.figures.themes import THEMES, Theme
from tickdsl.records.events import MetricInfo

#: What each kind of figure shows; "{}" stands for the name of the metric.
KINDS = {
    "score": "{} against the weights left",
    "flops": "{} against the FLOPs left",
    "layers": "what is left of each layer",
    "pareto": "{} against cost",
    "phase": "{} relative to dense, by what is removed",
}
#: Other names of kinds.
SYNONYMS = {"accuracy": "score"}

_INCHES = {"in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4, "pt": 1 / 72}
_LENGTH = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(in|cm|mm|pt)")
_WIDTHS = (1.0, 40.0)  # inches
_FONTS = (3.0, 72.0)  # points
_LEAST_FONTS = 14  # that a figure is wide


@attrs.frozen
class FigureOptions:
    """Options of a figure; `width` is in inches, `font` in points.

    `controls` is None to show controls where there is room for them. `arms` are names or ids, in the order of their
    colours, or None for all. `ylim` are the limits of the vertical axis, in percent if that shows shares.
    """

    kind: str = "score"
    theme: Theme = THEMES["paper"]
    width: float = THEMES["paper"].width
    font: float = THEMES["paper"].font
    title: bool = True
    controls: bool | None = None
    arms: tuple[str, ...] | None = None
    ylim: tuple[float, float] | None = None
    # What the page of a report needs besides:
    aspect: float = 0.58  # height of the axes by their width
    first_slot: int = 0  # colour of the first of `arms`
    axis: ScoreAxis | None = None  # the vertical axis, if several figures share one
    metric: MetricInfo | None = None  # of the arms that are drawn, if that is not the metric of the first of them


def figure_options(
    kind: str,
    *,
    style: str = "paper",
    width: float | str | None = None,
    font: float | None = None,
    title: bool = True,
    controls: bool | None = None,
    arms: Sequence[str] | str | None = None,
    ylim: tuple[float, float] | str | None = None,
) -> FigureOptions:
    """Options from what a user gives; text is read as on the command line. Raises TickdslError for a bad value."""
    theme, kind = THEMES.get(style), SYNONYMS.get(kind, kind)
    if kind not in KINDS:
        raise TickdslError(f"no figure `{kind}`", f"figures are {', '.join(KINDS)}")
    if theme is None:
        raise TickdslError(f"no style `{style}`", f"styles are {', '.join(THEMES)}")
    if isinstance(arms, str):
        arms = split_arms(arms)
    if isinstance(ylim, str):
        ylim = parse_limits(ylim)
    elif ylim is not None:
        ylim = _checked_limits(*ylim)
    if isinstance(width, str):
        width = parse_length(width)
    inches = _within("width", theme.width if width is None else width, _WIDTHS, "inches")
    points = _within("font", theme.font if font is None else font, _FONTS, "points")
    if inches * 72 < _LEAST_FONTS * points:
        raise TickdslError(
            f"a font of {points:g} points is too large for a width of {inches:.3g} inches",
            f"at most {inches * 72 / _LEAST_FONTS:.0f} points fit",
        )
    return FigureOptions(kind, theme, inches, points, title, controls, None if arms is None else tuple(arms), ylim)


def parse_length(text: str) -> float:
    """Inches of a length such as `3.3in`, `84mm` or `8.4cm`."""
    match = _LENGTH.fullmatch(text.strip())
    if match is None:
        raise TickdslError(f"`{text}` is not a width", "write a number and in, cm, mm or pt, as in 3.3in")
    return float(match[1]) * _INCHES[match[2]]


def parse_limits(text: str) -> tuple[float, float]:
    """Two numbers such as `90,95`."""
    parts = text.split(",")
    try:
        low, high = (float(part) for part in parts)
    except ValueError:
        raise TickdslError(f"`{text}` are no limits", "write two numbers, as in --ylim 90,95") from None
    return _checked_limits(low, high)


def split_arms(text: str) -> tuple[str, ...]:
    """Names of arms between commas; a comma within brackets belongs to a name, as in `imp[scope=local,rate=2]`."""
    return tuple(name.strip() for name in re.split(r",(?![^\[]*\])", text) if name.strip())


def _checked_limits(low: float, high: float) -> tuple[float, float]:
    if not -math.inf < low < high < math.inf:
        raise TickdslError(f"{low:g} to {high:g} are no limits", "the lower comes first")
    return float(low), float(high)


def _within(name: str, value: float, limits: tuple[float, float], unit: str) -> float:
    low, high = limits
    if not low <= value <= high:
        raise TickdslError(f"a {name} of {value:g} {unit} is not possible", f"it is {low:g} to {high:g} {unit}")
    return float(value)
