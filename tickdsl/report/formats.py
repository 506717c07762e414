"""The forms of a report: a page, Markdown, data, and the figure alone."""

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
_PNG_WIDTH = 1520  # twice the figure's own, for sharp text on dense screens


def render_report(format: str, sources: Sequence[ReportSource]) -> bytes:
    """The report on one run or more. Raises TickdslError for a figure where nothing was measured, and for png where
    the library that draws it is not installed."""
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
    raise ValueError(f"{format!r} is no form of a report")


def _json(sources: Sequence[ReportSource]) -> str:
    dicts = [results_dict(source.state) for source in sources]
    content = dicts[0] if len(dicts) == 1 else {"v": dicts[0]["v"], "runs": dicts}
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _csv(sources: Sequence[ReportSource]) -> str:
    """That of one run as it is; of several, their rows with the run's name before, and all columns of any."""
    if len(sources) == 1:
        return results_csv(sources[0].state)
    tables = [(source.name, list(csv.DictReader(io.StringIO(results_csv(source.state))))) for source in sources]
    heads = [next(csv.reader(io.StringIO(results_csv(source.state)))) for source in sources]
    swept = dict.fromkeys(name for head in heads for name in head if name.startswith("sweep."))
    plain = [name for name in heads[0] if not name.startswith("sweep.")]
    text = io.StringIO()
    rows = csv.DictWriter(text, ["run", *plain[:2], *swept, *plain[2:]], restval="", lineterminator="\n")
    rows.writeheader()
    for name, table in tables:
        rows.writerows({"run": name, **row} for row in table)
    return text.getvalue()


def _svg(sources: Sequence[ReportSource]) -> str:
    states = {source.name: source.state for source in with_short_names(sources)}
    figure = accuracy_svg(sources[0].state) if len(sources) == 1 else comparison_svg(states)
    if figure is None:
        raise TickdslError(
            f"nothing was measured in {', '.join(states)}", "there is a figure once a level was measured"
        )
    return figure


def _png(figure: str) -> bytes:
    try:
        import resvg_py
    except ImportError as error:
        raise TickdslError(
            "PNG needs resvg-py, which is not installed", 'pip install "tickdsl[plots]", or take --format svg'
        ) from error
    return bytes(resvg_py.svg_to_bytes(svg_string=figure, width=_PNG_WIDTH, background="white"))
