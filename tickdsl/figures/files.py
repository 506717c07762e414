"""Writes figures as PDF, SVG and PNG: no dates, so that equal figures are equal files."""

from __future__ import annotations

import io

from tickdsl.figures.result_figure import ResultFigure
from tickdsl.figures.svg_text import accessible_svg

_METADATA: dict[str, dict[str, str | None]] = {
    "pdf": {"CreationDate": None, "Creator": "tickdsl", "Producer": None},
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
    "png": {"Software": "tickdsl"},
}


def figure_bytes(figure: ResultFigure, format: str, title: str, dpi: int) -> bytes:
    """The file of a figure; `title` names it for screen readers and readers of metadata."""
    content = io.BytesIO()
    metadata = dict(_METADATA[format])
    if format == "pdf":
        metadata["Title"] = title
    figure.savefig(content, format=format, dpi=dpi, metadata=metadata)
    if format == "svg":
        return accessible_svg(content.getvalue().decode(), title).encode()
    return content.getvalue()
