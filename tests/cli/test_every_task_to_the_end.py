"""A plan of every task, from the check to the report, the ticket and its evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import task_cases
from command_line import CliHarness
from plugin_task_cases import PLUGIN_CASES
from task_cases import TASK_CASES, TaskCase

CASES = {case.name: case for case in (*TASK_CASES, *PLUGIN_CASES)}
DATA = {
    case.head: line.removeprefix("data ")
    for case in CASES.values()
    for line in case.head.splitlines()
    if line.startswith("data ")
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_plan_runs_and_its_ticket_is_evaluated(
    case: TaskCase, harness: CliHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(task_cases.__file__).parent))  # files are verified in fresh processes
    harness.write(f"{case.plan}compare random-init, dense\n", head="")
    checked = harness.call("check", harness.plan, "--allow-code")
    assert checked.exit == 0, checked.out + checked.err
    ran = harness.run("--allow-code", "--no-tensorboard")
    assert ran.exit == 0, ran.err
    tickets = [event for event in harness.events_of("metric") if event.contestant == "ticket"]
    assert tickets and all((event.accuracy is None) is (case.task != "classify") for event in tickets)
    reported = harness.call("report", harness.last_run.folder, "--to", harness.folder / "report.md")
    assert reported.exit == 0, reported.err
    assert "nan" not in (harness.folder / "report.md").read_text("utf-8").lower().split()
    if "export" in case.refuses:
        return
    for name in ("t.safetensors", *(() if "pt2" in case.refuses else ("t.pt2",))):
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
