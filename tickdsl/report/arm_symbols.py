"""The sign of each arm, the same in every figure and table of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from tickdsl.report.source import ReportSource
from tickdsl.results.svg_plots import Curve, curves_by_run, marker_path, stroke_attributes


class ArmSymbols:
    """The curves of all runs, each arm with its colour and marker."""

    def __init__(self, sources: Sequence[ReportSource]) -> None:
        self.curves = curves_by_run({source.name: source.state for source in sources})
        self._ticket_curves: dict[tuple[str, str], Curve] = {}
        for run, curves in self.curves.items():
            prefix = f"{run}: " if len(sources) > 1 else ""
            self._ticket_curves |= {
                (run, curve.label.removeprefix(prefix)): curve for curve in curves if not curve.dashed
            }

    def svg_for(self, run: str, arm: str) -> str:
        """A small SVG for the arm; "" where it has no sign of its own."""
        curve = self._ticket_curves.get((run, arm))
        return "" if curve is None or curve.marker is None else curve_symbol(curve)

    def ticket_curves(self, run: str) -> Mapping[str, Curve]:
        """The curves of the tickets of a run, by arm id."""
        return {arm: curve for (owner, arm), curve in self._ticket_curves.items() if owner == run}


def curve_symbol(curve: Curve) -> str:
    """A curve's line and marker, as large as a word; decoration beside its name."""
    sign = "" if curve.marker is None else marker_path(14, 7, curve)
    return (
        '<svg class="symbol" viewBox="0 0 28 14" width="28" height="14" aria-hidden="true">'
        f'<path d="M0 7h28" {stroke_attributes(curve)}/>{sign}</svg>'
    )


def accessible_title(name: str, text: str, number: str) -> tuple[str, str]:
    """The attributes and the parts that make a drawing speak to who cannot see it."""
    attributes = f'role="img" aria-labelledby="{number}-t {number}-d"'
    parts = f'<title id="{number}-t">{escape(name)}</title><desc id="{number}-d">{escape(text)}</desc>'
    return attributes, parts
