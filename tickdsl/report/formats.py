"""Renders a report in each of its formats."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

from tickdsl.errors import TickdslError
from tickdsl.report.compose import build_document
from tickdsl.report.html import render_html
from tickdsl.report.markdown import render_markdown
from tickdsl.report.source import ReportSource, with_short_names
from tickdsl.results.export import results_csv, results_dict
from tickdsl.results.svg_plots import accuracy_svg, comparison_svg

FORMATS = ("html", "md", "csv", "json", "png", "svg")
_PNG_WIDTH = 1520  # twice the width of the SVG, for high-density screens


def render_report(format: str, sources: Sequence[ReportSource]) -> bytes:
    """Render a report on one or more runs in one of FORMATS.

    Raises TickdslError for svg and png if nothing was measured, and for png if resvg-py is not installed; ValueError
    for an unknown format.
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
        case "svg":
            return _svg(sources).encode()
        case "png":
            return _png(_svg(sources))
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
    other_columns = [name for name in headers[0] if not name.startswith("sweep.")]
    text = io.StringIO()
    rows = csv.DictWriter(
        text, ["run", *other_columns[:2], *sweep_columns, *other_columns[2:]], restval="", lineterminator="\n"
    )
    rows.writeheader()
    for name, table in tables:
        rows.writerows({"run": name, **row} for row in table)
    return text.getvalue()


def _svg(sources: Sequence[ReportSource]) -> str:
    states = {source.name: source.state for source in with_short_names(sources)}
    figure = accuracy_svg(sources[0].state) if len(sources) == 1 else comparison_svg(states)
    if figure is None:
        raise TickdslError(
            f"no measurements to plot in {', '.join(states)}", "try again once the first round has been measured"
        )
    return figure


def _png(figure: str) -> bytes:
    try:
        import resvg_py
    except ImportError as error:
        raise TickdslError(
            "PNG output needs resvg-py, which is not installed",
            'run `pip install "tickdsl[plots]"`, or use `--format svg`',
        ) from error
    return bytes(resvg_py.svg_to_bytes(svg_string=figure, width=_PNG_WIDTH, background="white"))
