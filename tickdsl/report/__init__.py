"""Writes reports on runs as HTML, Markdown, CSV, JSON, SVG or PNG. Reads records only; imports no torch."""

from __future__ import annotations

from pathlib import Path

from tickdsl.records.files import write_atomically
from tickdsl.records.paths import RunPaths
from tickdsl.report.formats import FORMATS, render_report
from tickdsl.report.source import ReportSource, read_source, source_from_state
from tickdsl.results.state import RunState

__all__ = ["FORMATS", "ReportSource", "read_source", "render_report", "write_report"]


def write_report(state: RunState, paths: RunPaths) -> Path:
    """Write report.html into the folder of a run atomically. Raises TickdslError if it cannot be written."""
    write_atomically(paths.report, render_report("html", [source_from_state(state, paths)]))
    return paths.report
