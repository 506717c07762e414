"""The colour and marker of each arm, the same in every plot and table of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from tickdsl.report.source import ReportSource
from tickdsl.results.svg_plots import Curve, curves_by_run, marker_path, stroke_attributes


class ArmSymbols:
    """The curves of all runs, and a small symbol for each arm."""

    def __init__(self, sources: Sequence[ReportSource]) -> None:
        self.curves = curves_by_run({source.name: source.state for source in sources})
        self._ticket_curves: dict[tuple[str, str], Curve] = {}
        for run, curves in self.curves.items():
            prefix = f"{run}: " if len(sources) > 1 else ""
            self._ticket_curves |= {
                (run, curve.label.removeprefix(prefix)): curve for curve in curves if not curve.dashed
            }

    def svg_for(self, run: str, arm: str) -> str:
        """The symbol of an arm as SVG; "" if the arm has no colour of its own."""
        curve = self._ticket_curves.get((run, arm))
        return "" if curve is None or curve.marker is None else curve_symbol(curve)

    def ticket_curves(self, run: str) -> Mapping[str, Curve]:
        """The curves of the tickets of a run, by arm id."""
        return {arm: curve for (owner, arm), curve in self._ticket_curves.items() if owner == run}


def curve_symbol(curve: Curve) -> str:
    """The line and marker of a curve as an inline SVG, hidden from screen readers."""
    marker = "" if curve.marker is None else marker_path(14, 7, curve)
    return (
        '<svg class="symbol" viewBox="0 0 28 14" width="28" height="14" aria-hidden="true">'
        f'<path d="M0 7h28" {stroke_attributes(curve)}/>{marker}</svg>'
    )


def accessible_title(name: str, description: str, element_id: str) -> tuple[str, str]:
    """SVG attributes, and the title and description elements they refer to, for screen readers."""
    attributes = f'role="img" aria-labelledby="{element_id}-t {element_id}-d"'
    parts = f'<title id="{element_id}-t">{escape(name)}</title><desc id="{element_id}-d">{escape(description)}</desc>'
    return attributes, parts
