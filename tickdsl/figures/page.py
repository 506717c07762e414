"""Figures inside a page: SVG whose colours are CSS variables, so that one drawing serves light and dark readers."""

from __future__ import annotations

import io
from collections.abc import Mapping

import attrs

from tickdsl.figures.options import FigureOptions
from tickdsl.figures.themes import THEMES
from tickdsl.results.state import RunState

_PAPER = THEMES["paper"]
_FONT = 13  # pixels
#: CSS variables by the colours of the style `paper`.
_VARIABLES = {
    _PAPER.paper: "paper",
    _PAPER.ink: "ink",
    _PAPER.soft: "soft",
    _PAPER.grid: "line",
    _PAPER.rest: "rest",
    **{colour: f"arm-{slot + 1}" for slot, colour in enumerate(_PAPER.arms)},
}


def page_options(width: int, aspect: float = 0.58, kind: str = "score") -> FigureOptions:
    """Options of a figure without title, `width` pixels wide; one pixel is one of matplotlib's points."""
    return FigureOptions(kind, width=width / 72, font=_FONT, title=False, aspect=aspect)


def inline_svg(
    states: Mapping[str, RunState], options: FigureOptions, title: str, description: str, prefix: str
) -> str:
    """An `<svg>` element for a page, in which `prefix` starts every id."""
    from tickdsl.figures import draw_figure
    from tickdsl.figures.svg_text import page_svg

    drawn = draw_figure(states, attrs.evolve(options, theme=_PAPER))
    content = io.BytesIO()
    drawn.savefig(content, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return page_svg(content.getvalue().decode(), title, description, prefix, _VARIABLES)


def slot_colour(slot: int) -> str:
    """The colour of an arm on a page."""
    return f"var(--arm-{slot + 1})"
