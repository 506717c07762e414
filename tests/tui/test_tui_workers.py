"""The workers of a run in the monitor, in the report and in the results: who is busy, the cost, what is moved."""

from __future__ import annotations

import attrs
from recorded_run import StubSource, events_until_midway, recorded_events, snapshot
from tickdsl.tui.feed import Feed
from tickdsl.tui.views import log
from tickdsl.tui.views.workers import worker_lines

from tickdsl.records import EventRecord
from tickdsl.records.events import Measure, Phase, StepStart, Transfer
from tickdsl.report.arm_symbols import ArmSymbols
from tickdsl.report.cost import cost_section
from tickdsl.report.document import Details, Table, Text
from tickdsl.report.source import ReportSource
from tickdsl.results.export import results_dict
from tickdsl.results.state_builder import build_state


def on_nodes(records: list[EventRecord], nodes: int, workers: int) -> list[EventRecord]:
    """The recording as if its steps had run on the workers of several nodes, in turn."""
    names = [f"node-{node}, worker {worker}" for worker in range(1, workers + 1) for node in range(1, nodes + 1)]
    changed, count = [], 0
    for record in records:
        if isinstance(record.event, StepStart):
            record = attrs.evolve(record, event=attrs.evolve(record.event, worker=names[count % len(names)]))
            count += 1
        changed.append(record)
    return changed


def with_transfers(records: list[EventRecord], *hosts: str) -> list[EventRecord]:
    """The recording as if these machines had a store in a bucket, each of which has moved something twice."""
    last = records[-1]
    moved = [Transfer(host=host, requests=600, received=600_000_000, sent=1_500) for host in hosts for _ in range(2)]
    return [*records, *(EventRecord(last.seq + 1 + number, last.t, event) for number, event in enumerate(moved))]


def tables(records: list[EventRecord]) -> dict[str, Table]:
    """The tables of the section on cost, by their captions, also those that are collapsed."""
    source = ReportSource(build_state(records), "", "ok")
    found: dict[str, Table] = {}
    for part in cost_section([source], ArmSymbols([source])).parts:
        for table in part.parts if isinstance(part, Details) else (part,):
            if isinstance(table, Table):
                found[table.caption] = table
    return found


def test_the_dialog_says_who_runs_what() -> None:
    now = snapshot(on_nodes(events_until_midway(), 2, 1))
    running = {step.worker: name for name, step in now.state.steps.items() if step.status == "running"}
    assert running
    first, cost, empty, head, *lines = worker_lines(now)
    assert first.startswith("2 workers, idle ") and cost.endswith(" to go") and not empty
    assert head.split() == ["worker", "steps", "busy", "idle", "runs"]
    assert [line.partition("  ")[0] for line in lines] == ["node-1, worker 1", "node-2, worker 1"]
    assert [line.endswith("–") for line in lines] == [name not in running for name in now.state.uses]


def test_the_dialog_shows_transfers_only_where_there_is_a_bucket() -> None:
    records = events_until_midway()
    assert not any("bucket" in line for line in worker_lines(snapshot(records)))
    lines = worker_lines(snapshot(with_transfers(records, "a", "b")))
    assert "2,400 requests to the bucket, 2.40 GB received, 6.00 kB sent" in lines


def test_a_run_without_a_step_has_no_workers() -> None:
    assert worker_lines(snapshot(recorded_events()[:2])) == ["no worker has started a step yet"]


def test_the_report_has_a_table_of_workers_and_of_nodes_if_there_are_many() -> None:
    few = tables(on_nodes(list(recorded_events()), 2, 2))["Workers"]
    assert few.columns == ("worker", "steps", "busy", "in the run", "idle")
    assert sorted(row[0].text for row in few.rows) == sorted(f"node-{n}, worker {w}" for n in (1, 2) for w in (1, 2))
    starts = sum(isinstance(record.event, StepStart) for record in recorded_events())
    many = tables(on_nodes(list(recorded_events()), 3, 11))["Workers"]
    assert starts >= 33 and many.columns[:2] == ("node", "workers")
    assert [(row[0].text, row[1].text) for row in many.rows] == [(f"node-{node}", "11") for node in (1, 2, 3)]
    assert sum(int(row[2].text) for row in many.rows) == sum(int(row[1].text) for row in few.rows)


def test_report_and_results_have_the_transfers_of_each_machine() -> None:
    one = with_transfers(list(recorded_events()), "a")
    assert "Transfers to and from the bucket" not in tables(one)  # the summary says it
    source = ReportSource(build_state(one), "", "ok")
    summary = next(part for part in cost_section([source], ArmSymbols([source])).parts if isinstance(part, Text))
    assert summary.text.endswith(" 1,200 requests to the bucket, 1.20 GB received, 3.00 kB sent.")
    two = with_transfers(list(recorded_events()), "a", "b")
    table = tables(two)["Transfers to and from the bucket"]
    assert [[cell.text for cell in row] for row in table.rows] == [
        [host, "1,200", "1.20 GB", "3.00 kB"] for host in ("a", "b")
    ]
    moved = {"requests": 1200, "received": 1_200_000_000, "sent": 3000}
    assert results_dict(build_state(two))["transfers"] == [{"host": host, **moved} for host in ("a", "b")]
    assert "transfers" not in results_dict(build_state(recorded_events()))


def test_transfers_are_not_in_the_log() -> None:
    records = with_transfers(events_until_midway(), "a", "b")
    feed = Feed(StubSource(list(records)))
    while feed.advance():
        pass
    assert feed.event_count == len(records)
    assert feed.log_records and not any(isinstance(record.event, Transfer) for record in feed.log_records)


def test_the_log_says_what_the_engine_does_before_its_first_step_and_what_was_measured() -> None:
    last = recorded_events()[-1]
    where = {"arm": "colt", "contestant": "ticket", "level": 2, "seed": 1, "step": "s"}
    measure = Measure(**where, metric="latency", figures={"latency": 0.1})
    told = [EventRecord(last.seq + 1 + n, last.t, event) for n, event in enumerate((Phase(doing="reading x"), measure))]
    texts = [log.log_row(record, snapshot(recorded_events())).text for record in told]
    assert texts == ["reading x…", "colt, round 2, seed 1: latency measured"]
