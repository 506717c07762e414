"""Every task measures its epochs on validation data, and stops by them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from step_runner import step_runner
from task_cases import TASK_CASES, TaskCase

from tickdsl.engine.scheduler.arm_ends import metric_value
from tickdsl.training.tasks import find_task


@pytest.mark.parametrize("case", TASK_CASES, ids=lambda case: f"{case.task}-{case.head.split()[1]}")
def test_a_training_of_every_task_is_measured_on_validation_and_tested_at_the_end(
    tmp_path: Path, case: TaskCase
) -> None:
    head = re.sub(r"^(data .*)$", r"\1 validation=25%", case.head, flags=re.MULTILINE)
    head = head.replace("train 3ep", "train 3ep patience=1ep monitor=metric") + "\n"
    plan = f"seeds 1\nprune {case.units[0]} global 30%; rewind weights to init\nreport pruned, early-stop every=2it\n"
    runner = step_runner(tmp_path, plan, head=head)
    key = runner.measured_step("dense", 0)
    metrics = runner.metrics(key)
    task = find_task(case.task)
    name = task.primary.name
    assert {"loss", *(metric.name for metric in task.metrics)} <= metrics["validation"].keys()
    assert metrics["validation"][name] == metrics["epochs"][-1][3]
    tested = metrics["accuracy"] if name == "accuracy" else metrics["score"]
    assert (tested, metrics["loss"]) != (metrics["validation"][name], metrics["validation"]["loss"])
    assert metric_value(metrics, "loss") == metrics["validation"]["loss"]
    scores = [row[3] for row in metrics["epochs"]]
    best = max(scores) if task.primary.higher_is_better else min(scores)
    assert metrics["best_validation"] == best == scores[metrics["best_epoch"] - 1]
    assert len(scores) == 3 or metrics["stopped_after"] == len(scores)
    assert metrics["loss_curve"][-1][0] == metrics["steps"]
    (pruned,) = (m for m in runner.study.measurements if m.report_metric == "pruned")
    assert "pruned.validation" in runner.metrics(pruned.step)["figures"]
