"""Searches of amounts in the state of a run, in logs, results, reports and the monitor."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import jsonschema
from recorded_run import recorded_events, snapshot
from tickdsl.tui.views import detail, tree

from tickdsl.records.event_decode import EventRecord
from tickdsl.records.events import Event, PlanResolved, SearchProgress, StepEnd, StepStart
from tickdsl.report.document import Table
from tickdsl.report.searches import searches_section
from tickdsl.report.source import ReportSource
from tickdsl.results.export import results_dict
from tickdsl.results.plain_progress import PlainProgress
from tickdsl.results.searches import searches
from tickdsl.results.state_builder import build_state

METRICS = {"search_evaluations": 60, "search_reused": 49, "search_score": 0.61, "search_local": 0.58}


def resolved() -> tuple[int, PlanResolved]:
    return next((n, r.event) for n, r in enumerate(recorded_events()) if isinstance(r.event, PlanResolved))


def search_step() -> str:
    return next(step.id for step in resolved()[1].steps if step.operation == "prune")


def story(*events: Event) -> list[EventRecord]:
    """The recording up to its plan, and then these events."""
    start = list(recorded_events()[: resolved()[0] + 1])
    last = start[-1]
    return start + [EventRecord(last.seq + n, last.t + n, event) for n, event in enumerate(events, 1)]


def running() -> list[EventRecord]:
    step = search_step()
    return story(StepStart(step=step), *(SearchProgress(step=step, done=n, total=60) for n in range(1, 24)))


def ended() -> list[EventRecord]:
    return [*running(), *story(StepEnd(step=search_step(), status="done", seconds=9.0, metrics=METRICS))[-1:]]


def lines(records: Sequence[EventRecord], interval: float = 1e9) -> str:
    out = io.StringIO()
    plain = PlainProgress(out, interval=interval)
    for record in records:
        plain.show(record)
    return out.getvalue()


def test_the_monitor_and_logs_tell_how_far_a_search_is() -> None:
    step = search_step()
    assert build_state(running()).steps[step].search == (23, 60)
    now = snapshot(running())
    folding = tree.TreeExpansion()
    for row in tree.tree_rows(now, folding):
        folding = folding.with_expanded(row.path, True)
    notes = [row.note for row in tree.tree_rows(now, folding)]
    assert any(note.startswith("search: 23/60") for note in notes)
    assert "search    23 of 60 evaluations" in detail.step_lines(step, now)
    assert "search: 23/60" in lines(running(), interval=0)


def test_a_search_that_has_ended_is_told_once() -> None:
    (found,) = searches(build_state(ended()))
    assert (found.step, found.evaluations, found.reused) == (search_step(), 60, 49)
    assert (found.score, found.local, found.global_) == (0.61, 0.58, None)
    assert lines(ended()).count("60 evaluations, 49 of them stored before") == 1
    assert searches(build_state(running())) == []


def test_results_list_searches_as_their_schema_says() -> None:
    data = results_dict(build_state(ended()))
    schema = json.loads(files("tickdsl.results").joinpath("results.schema.json").read_text())
    jsonschema.validate(json.loads(json.dumps(data)), schema)
    (entry,) = data["searches"]
    assert (entry["evaluations"], entry["reused"], entry["global"]) == (60, 49, None)
    document = Path(__file__).parents[2] / "docs" / "reference" / "results.md"
    assert entry.keys() <= set(re.findall(r"[a-z_]+", document.read_text("utf-8")))
    assert entry.keys() == schema["$defs"]["search"]["properties"].keys()
    assert "searches" not in results_dict(build_state(recorded_events()))


def test_the_report_has_a_table_of_searches() -> None:
    (section,) = searches_section([ReportSource(build_state(ended()), "", "ok")])
    (table,) = (part for part in section.parts if isinstance(part, Table))
    (row,) = table.rows
    texts = [cell.text for cell in row]
    assert texts[3:] == ["60", "49", "61.00%", "58.00%", "–"]
    assert searches_section([ReportSource(build_state(recorded_events()), "", "ok")]) == []
