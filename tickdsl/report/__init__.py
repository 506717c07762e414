"""Writes reports on runs: HTML, Markdown, CSV, JSON, and figures. Reads records only; imports no torch."""

from __future__ import annotations

from pathlib import Path

from tickdsl.figures import FigureOptions
from tickdsl.records.files import write_atomically
from tickdsl.records.paths import RunPaths
from tickdsl.report.formats import FORMATS, render_report
from tickdsl.report.source import ReportSource, read_source, source_from_state
from tickdsl.results.state import RunState

__all__ = ["FORMATS", "ReportSource", "read_source", "render_report", "write_report"]


#: Of accuracy.svg in the folder of a run, which is for screens.
_SVG_OPTIONS = FigureOptions(width=6.5, font=10)


def write_report(state: RunState, paths: RunPaths) -> Path:
    """Write report.html and accuracy.svg into the folder of a run atomically.

    Without a ticket that has an accuracy, there is no accuracy.svg. Raises TickdslError if a file cannot be written.
    """
    source = source_from_state(state, paths)
    write_atomically(paths.report, render_report("html", [source]))
    if any(key[1] == "ticket" and metric.accuracy is not None for key, metric in state.metrics.items()):
        write_atomically(paths.accuracy_svg, render_report("svg", [source], _SVG_OPTIONS))
    return paths.report
