"""Write networks of a run to files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from tickdsl.api.plan_sources import StrPath
from tickdsl.argument_types import require_path
from tickdsl.errors import TickdslError

if TYPE_CHECKING:
    from tickdsl.tickets.from_run import TicketOfRun

ExportFormatName: TypeAlias = Literal["ticket", "pt2", "onnx", "state-dict"]


def export_network(
    taken: TicketOfRun,
    path: StrPath | None,
    format: ExportFormatName | None,
    *,
    raw: bool = False,
    sparse: bool = False,
    int8: bool = False,
    blocks: bool = False,
    part: str | None = None,
) -> Path:
    """Write a network in a format, verify the file in a fresh process, and return its path; see `Results.export`."""
    from tickdsl.tickets.export_format import ExportOptions
    from tickdsl.tickets.exporting import export, format_named

    if format is not None and format not in get_args(ExportFormatName):
        raise TickdslError(
            f"`format` cannot be {format!r}", f"use one of {', '.join(map(repr, get_args(ExportFormatName)))}"
        )
    target = None if path is None else require_path(path, "path")
    options = ExportOptions(raw=raw, sparse=sparse, int8=int8, blocks=blocks, part=part or "")
    return export(taken, format_named(format, target, options), target, options).path
