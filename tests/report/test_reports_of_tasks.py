"""Reports on runs of other tasks than classification, and of several tasks: each table and figure has one metric."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from task_runs import DEGREES, PRIMARY, RMSE
from written_runs import write_run

from tickdsl.records.events import MetricInfo
from tickdsl.report import read_source, render_report, write_report
from tickdsl.report.compose import build_document
from tickdsl.report.document import Beside, Document, Figure, Part, Table
from tickdsl.results.export import results_dict
from tickdsl.results.scores import ACCURACY, label, title
from tickdsl.results.state_builder import read_run

FORMATS = ("html", "md", "csv", "json")


def parts(document: Document, kind: type[Part]) -> list[Part]:
    found: list[Part] = []
    for section in document.sections:
        for part in section.parts:
            inner = (part.figure, *part.parts) if isinstance(part, Beside) else (part,)
            found += [one for one in inner if isinstance(one, kind)]
    return found


def captions(document: Document) -> list[str]:
    return [part.caption for part in parts(document, Table) if isinstance(part, Table)]


@pytest.mark.parametrize("metric", PRIMARY, ids=lambda metric: metric.name)
def test_a_report_speaks_of_the_metric(tmp_path: Path, metric: MetricInfo) -> None:
    source = read_source(write_run(tmp_path, metrics=(metric,)))
    page = render_report("html", [source]).decode()
    text = render_report("md", [source]).decode()
    assert "accura" not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    assert "accura" not in text
    assert ("points" in text) == metric.is_share
    direction = "higher is better" if metric.higher_is_better else "lower is better"
    assert direction in page  # the title of the axis
    for kind in ("score", "accuracy", "flops", "pareto"):
        assert direction in render_report("svg", [source], figure_of(kind)).decode()


def figure_of(kind: str):  # type: ignore[no-untyped-def]
    from tickdsl.figures import figure_options

    return figure_options(kind)


def test_arms_of_two_tasks_are_in_tables_and_figures_of_their_own(tmp_path: Path) -> None:
    source = read_source(write_run(tmp_path, metrics=(ACCURACY, RMSE)))
    document = build_document([source])
    shown = captions(document)
    assert {"Smallest winning ticket of each arm, by accuracy", "Smallest winning ticket of each arm, by RMSE"} <= {
        caption.replace("Best", "Smallest winning").replace("Most accurate", "Smallest winning") for caption in shown
    }
    assert "comparison" not in [section.name for section in document.sections]
    assert [figure.title for figure in parts(document, Figure) if isinstance(figure, Figure)][:2] == [
        "Accuracy against the weights left",
        "RMSE against the weights left",
    ]
    page = render_report("html", [source]).decode()
    assert "accuracy (%)" in page and "RMSE (lower is better)" in page
    identifiers = re.findall(r'\sid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))
    for format in FORMATS:
        assert render_report(format, [source])
    drawn = render_report("svg", [source], figure_of("score")).decode()
    assert "1 arm with another metric left out" in drawn and "RMSE" not in drawn


def test_two_runs_with_different_metrics_are_side_by_side(tmp_path: Path) -> None:
    sources = [
        read_source(write_run(tmp_path, plan=name, metrics=(m,))) for name, m in (("a", ACCURACY), ("b", DEGREES))
    ]
    text = render_report("md", sources).decode()
    assert "compared by different metrics" in text
    assert "MAE, °C ↓" in text and "accuracy %" in text
    assert json.loads(render_report("json", sources))["runs"][1]["arms"][0]["metric"]["unit"] == "°C"
    assert render_report("csv", sources)


@pytest.mark.parametrize(("metric", "name"), [(ACCURACY, "accuracy.svg"), (RMSE, "score.svg")])
def test_the_figure_of_a_run_is_named_after_what_it_shows(tmp_path: Path, metric: MetricInfo, name: str) -> None:
    paths = write_run(tmp_path, metrics=(metric,))
    write_report(read_run(paths), paths)
    assert [path.name for path in sorted(paths.folder.glob("*.svg"))] == [name]
    assert ElementTree.fromstring((paths.folder / name).read_text()).get("role") == "img"


def test_events_of_earlier_versions_give_the_same_results(tmp_path: Path) -> None:
    """Their `plan.resolved` has neither tasks nor a metric."""
    paths = write_run(tmp_path, metrics=(ACCURACY,))
    new = results_dict(read_run(paths))
    lines = []
    for line in paths.events.read_text().splitlines():
        event = json.loads(line)
        if event["type"] == "plan.resolved":
            assert event.pop("tasks") and event.pop("metric") == ""
        lines.append(json.dumps({key: value for key, value in event.items() if key not in ("score", "best_score")}))
    paths.events.write_text("\n".join(lines) + "\n")
    assert results_dict(read_run(paths)) == new


def test_a_task_that_no_run_can_have_is_skipped(tmp_path: Path) -> None:
    """A task without metrics, or of an arm that the plan does not have, is counted as one that does not fit."""
    paths = write_run(tmp_path, metrics=(RMSE,))
    text = paths.events.read_text()
    broken = re.sub(r'"metrics":\[\{"name":"rmse".*?\}\]', '"metrics":[]', text, count=1)
    assert broken != text
    paths.events.write_text(broken)
    state = read_run(paths)
    assert state.skipped_events >= 1
    assert render_report("html", [read_source(paths)])


def test_a_report_on_texts_speaks_of_no_images(tmp_path: Path) -> None:
    """Tables, notes and texts call the inputs of a task on texts samples."""
    paths = write_run(tmp_path)
    lines = [json.loads(line) for line in paths.events.read_text().splitlines()]
    for event in lines:
        if event["type"] == "plan.resolved":
            metrics = [{"name": "accuracy", "higher_is_better": True, "unit": "share", "per_sample": 1.0}]
            event["tasks"] = {
                a["id"]: {"name": "classify", "metrics": metrics, "sample": "sample"} for a in event["arms"]
            }
    paths.events.write_text("".join(json.dumps(event) + "\n" for event in lines))
    text = render_report("md", [read_source(paths)]).decode()
    assert not re.findall(r".*\bimages?\b.*", text)
    assert "Test samples choose the ticket" in text


@pytest.mark.parametrize(
    ("name", "expected"),
    [("accuracy", "Accuracy"), ("perplexity", "Perplexity"), ("miou", "mIoU"), ("map", "mAP"), ("r2", "R²")],
)
def test_titles_start_with_a_capital_unless_a_metric_is_written_otherwise(name: str, expected: str) -> None:
    metric = MetricInfo(name=name, higher_is_better=True)
    assert title(f"{label(metric)} by round") == f"{expected} by round"
