"""A plan of every task, from the check to the report, the ticket and its evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import task_cases
from command_line import CliHarness
from plugin_task_cases import PLUGIN_CASES
from task_cases import TASK_CASES, TaskCase

from tickdsl.plugins import permission
from tickdsl.training.tasks import find_task

CASES = {case.name: case for case in (*TASK_CASES, *PLUGIN_CASES)}
DATA = {
    case.head: line.removeprefix("data ")
    for case in CASES.values()
    for line in case.head.splitlines()
    if line.startswith("data ")
}


def never_holds(case: TaskCase) -> str:
    """Conditions on test results that no network fulfils: one on the primary metric, and one on `drop`."""
    primary = find_task(case.task).primary
    if primary.unit == "share":
        return f"stop when {primary.name} > 99.99%\n"
    # A bound is not negative, so a metric like the ELBO cannot be bounded from below.
    return f"stop when {primary.name} > 1000000\nstop when drop > 1000000\n"


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_plan_runs_and_its_ticket_is_evaluated(
    case: TaskCase, harness: CliHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permission, "_allowed", True)
    monkeypatch.setenv("PYTHONPATH", str(Path(task_cases.__file__).parent))  # files are verified in fresh processes
    harness.write(f"{case.plan}{never_holds(case)}compare random-init, dense\n", head="")
    checked = harness.call("check", harness.plan, "--allow-code")
    assert checked.exit == 0, checked.out + checked.err
    ran = harness.run("--allow-code", "--no-tensorboard")
    assert ran.exit == 0, ran.err
    tickets = [event for event in harness.events_of("metric") if event.contestant == "ticket"]
    assert {event.level for event in tickets} == {1, 2}
    assert all((event.accuracy is None) is (case.task != "classify") for event in tickets)
    reported = harness.call("report", harness.last_run.folder, "--to", harness.folder / "report.md")
    assert reported.exit == 0, reported.err
    assert "nan" not in (harness.folder / "report.md").read_text("utf-8").lower().split()
    for name in ("t.safetensors", "t.pt2"):
        path = harness.folder / name
        exported = harness.call("export", harness.last_run.folder, "--to", path, "--allow-code", "--level", 1)
        assert exported.exit == 0, exported.err
        assert "as stored" in exported.out or "stored is" in exported.out, exported.out
        data = DATA.get(case.head) or case.head.split(" on ")[1].splitlines()[0]
        found = harness.call("evaluate", path, "--on", data, "--json", "--allow-code")
        assert found.exit == 0, found.err
        figures = json.loads(found.out)
        assert figures["task"] == case.task
        assert figures["score"] == pytest.approx(figures["stored"], rel=1e-3)


def test_the_data_of_every_case_are_named() -> None:
    for case in CASES.values():
        assert DATA.get(case.head) or " on " in case.head.splitlines()[0], case.head


def test_a_condition_on_a_metric_of_a_task_ends_the_rounds(harness: CliHarness) -> None:
    head = "plan 1\nmodel gpt layers=1 heads=2 dim=16\ndata corpus length=8 train=40 test=10\ntrain 1ep\nseeds 1\n"
    harness.write(f"{head}prune weights 30% x 3; rewind lr\nstop when perplexity > 1\n", head="")
    assert harness.run("--no-tensorboard").exit == 0
    assert {event.level for event in harness.events_of("metric") if event.contestant == "ticket"} == {1}


def test_a_condition_looks_at_the_validation_set_if_there_is_one(harness: CliHarness) -> None:
    data = "synthetic size=8 train=120 test=64 validation=25%"
    head = f"plan 1\nmodel small-cnn width=0.5\ndata {data}\ntrain 1ep lr=0.1 batch=30\nseeds 1\n"
    harness.write(f"{head}prune weights 30% x 2; rewind lr\n", head="")
    assert harness.run("--no-tensorboard").exit == 0
    first = next(event for event in harness.events_of("metric") if event.contestant == "ticket" and event.level == 1)
    held_out, tested = first.validation["loss"], first.loss
    assert held_out != tested
    between = (held_out + tested) / 2
    for comparison in "<", ">":
        harness.write(f"{head}prune weights 30% x 2; rewind lr\nstop when loss {comparison} {between:.9f}\n", head="")
        assert harness.run("--no-tensorboard").exit == 0
        ends = held_out < between if comparison == "<" else held_out > between
        levels = {event.level for event in harness.events_of("metric") if event.contestant == "ticket"}
        assert levels == ({1} if ends else {1, 2})
