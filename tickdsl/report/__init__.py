"""Writes reports on runs: HTML, Markdown, CSV, JSON, and figures. Reads records only; imports no torch."""

from __future__ import annotations

from pathlib import Path

from tickdsl.figures import FigureOptions
from tickdsl.records.files import write_atomically
from tickdsl.records.paths import RunPaths
from tickdsl.report.formats import FORMATS, render_report
from tickdsl.report.source import ReportSource, read_source, source_from_state
from tickdsl.results.scores import ACCURACY
from tickdsl.results.standings import compute_standings
from tickdsl.results.state import RunState

__all__ = ["FORMATS", "ReportSource", "read_source", "render_report", "write_report"]


#: Of the figure in the folder of a run, which is for screens.
_SVG_OPTIONS = FigureOptions(width=6.5, font=10)


def write_report(state: RunState, paths: RunPaths) -> Path:
    """Write report.html and a figure of the scores into the folder of a run atomically.

    The figure is accuracy.svg, or score.svg if arms are compared by something else. Without a ticket that has a score,
    there is none. Raises TickdslError if a file cannot be written.
    """
    source = source_from_state(state, paths)
    write_atomically(paths.report, render_report("html", [source]))
    if any(key[1] == "ticket" and standing.score is not None for key, standing in compute_standings(state).items()):
        by_accuracy = all(state.metric_of(arm.id) == ACCURACY for arm in state.arms)
        path = paths.accuracy_svg if by_accuracy else paths.score_svg
        write_atomically(path, render_report("svg", [source], _SVG_OPTIONS))
    return paths.report
