"""Renders a report in each of its formats."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

import attrs

from tickdsl.figures import FORMATS as FIGURE_FORMATS
from tickdsl.figures import FigureOptions, render_figure
from tickdsl.report.compose import build_document
from tickdsl.report.html import render_html
from tickdsl.report.markdown import render_markdown
from tickdsl.report.source import ReportSource, with_short_names
from tickdsl.results.export import results_csv, results_dict

FORMATS = ("html", "md", "csv", "json", *FIGURE_FORMATS)


def render_report(format: str, sources: Sequence[ReportSource], options: FigureOptions | None = None) -> bytes:
    """Render a report on one or more runs in one of FORMATS; `options` are those of a figure.

    Raises TickdslError for pdf, svg and png if nothing was measured, and ValueError for an unknown format.
    """
    match format:
        case "html":
            return render_html(build_document(sources)).encode()
        case "md":
            return render_markdown(build_document(sources)).encode()
        case "json":
            return _json(sources).encode()
        case "csv":
            return _csv(sources).encode()
        case "pdf" | "svg" | "png":
            return _figure(format, sources, options or FigureOptions())
    raise ValueError(f"unknown report format {format!r}")


def _json(sources: Sequence[ReportSource]) -> str:
    dicts = [results_dict(source.state) for source in sources]
    content = dicts[0] if len(dicts) == 1 else {"v": dicts[0]["v"], "runs": dicts}
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _csv(sources: Sequence[ReportSource]) -> str:
    """The CSV of one run; for several, all their rows with a `run` column first and the union of their columns."""
    if len(sources) == 1:
        return results_csv(sources[0].state)
    tables = [(source.name, list(csv.DictReader(io.StringIO(results_csv(source.state))))) for source in sources]
    headers = [next(csv.reader(io.StringIO(results_csv(source.state)))) for source in sources]
    sweep_columns = dict.fromkeys(name for header in headers for name in header if name.startswith("sweep."))
    every = dict.fromkeys(name for header in headers for name in header)
    other_columns = [name for name in every if not name.startswith("sweep.")]
    text = io.StringIO()
    rows = csv.DictWriter(
        text, ["run", *other_columns[:2], *sweep_columns, *other_columns[2:]], restval="", lineterminator="\n"
    )
    rows.writeheader()
    for name, table in tables:
        rows.writerows({"run": name, **row} for row in table)
    return text.getvalue()


def _figure(format: str, sources: Sequence[ReportSource], options: FigureOptions) -> bytes:
    return render_figure({source.name: source.state for source in _named_after_plans(sources)}, format, options)


def _named_after_plans(sources: Sequence[ReportSource]) -> list[ReportSource]:
    """A run alone is named after its plan, too."""
    if len(sources) == 1 and (run := sources[0].state.run) is not None:
        return [attrs.evolve(sources[0], name=run.plan)]
    return with_short_names(sources)
