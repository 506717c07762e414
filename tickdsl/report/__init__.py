"""Reports on runs: what a person sends to a colleague. Reads records, imports no torch."""

from __future__ import annotations

from pathlib import Path

from tickdsl.records.files import write_whole
from tickdsl.records.paths import RunPaths
from tickdsl.report.forms import FORMS, write_as
from tickdsl.report.source import Source, read_source, source
from tickdsl.results.state import RunState

__all__ = ["FORMS", "Source", "read_source", "write_as", "write_report"]


def write_report(state: RunState, paths: RunPaths) -> Path:
    """Write report.html into the folder of a run, at once. Raises TickdslError where it cannot be written."""
    write_whole(paths.report, write_as("html", [source(state, paths)]))
    return paths.report
