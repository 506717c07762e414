"""The colour and marker of each arm, the same in every figure and table of a report."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tickdsl.figures.curves import choose_arms
from tickdsl.figures.page import slot_colour
from tickdsl.figures.themes import LINES, MARKERS
from tickdsl.report.source import ReportSource

#: The markers of matplotlib around (14, 7), as paths of SVG.
_SHAPES = {
    "o": "M10 7a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
    "s": "M10.3 3.3h7.4v7.4h-7.4z",
    "^": "M14 2.4l4.6 8.4h-9.2z",
    "D": "M14 2.4l4.6 4.6l-4.6 4.6l-4.6 -4.6z",
    "v": "M14 11.6l4.6 -8.4h-9.2z",
    "P": "M12.4 2.6h3.2v2.8h2.8v3.2h-2.8v2.8h-3.2v-2.8h-2.8v-3.2h2.8z",
}
_STROKE = 2  # pixels


class ArmSymbols:
    """The slot of each arm of all runs, and a small symbol for those that have one."""

    def __init__(self, sources: Sequence[ReportSource]) -> None:
        choices = choose_arms({source.name: source.state for source in sources}, None)
        self.slots = {(arm.run, arm.id): arm.slot for arm in choices if arm.slot is not None}

    def svg_for(self, run: str, arm: str) -> str:
        """The symbol of an arm as SVG; "" if the arm has no colour of its own."""
        slot = self.slots.get((run, arm))
        return "" if slot is None else _symbol(slot)


def _symbol(slot: int) -> str:
    """The line and marker of a slot as an inline SVG, hidden from screen readers."""
    dashes = " ".join(f"{_STROKE * length:g}" for length in LINES[slot] or ())
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        '<svg class="symbol" viewBox="0 0 28 14" width="28" height="14" aria-hidden="true" '
        f'style="fill: {slot_colour(slot)}; stroke: {slot_colour(slot)}">'
        f'<path d="M0 7h28" stroke-width="{_STROKE}"{dashed}/>'
        f'<path d="{_SHAPES[MARKERS[slot]]}" stroke="none"/></svg>'
    )


def accessible_title(name: str, description: str, element_id: str) -> tuple[str, str]:
    """SVG attributes, and the title and description elements they refer to, for screen readers."""
    attributes = f'role="img" aria-labelledby="{element_id}-t {element_id}-d"'
    parts = f'<title id="{element_id}-t">{escape(name)}</title><desc id="{element_id}-d">{escape(description)}</desc>'
    return attributes, parts
