"""Data sets with other targets than classes, and tasks of plug-ins, from the plan to the stored results."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from regression_data import PLUGIN
from step_runner import StepRunner, step_runner

import tickdsl
from tickdsl.engine.scheduler.arm_ends import arm_ends, drop
from tickdsl.engine.scheduler.event_builders import plan_resolved_event
from tickdsl.errors import TickdslError
from tickdsl.plugins import PluginError, permission
from tickdsl.tickets.evaluating import evaluate_file
from tickdsl.training.data import datasets
from tickdsl.training.tasks import TASKS, find_task

HEAD = 'model lenet-300-100\ndata "{module}:spots" train=96\ntrain 2ep lr=0.01 batch=32\n'
SMALL = 'model small-cnn width=0.5\ndata "{module}:spots" train=96\ntrain 2ep lr=0.01 batch=32\n'
#: A loss and a metric of one's own.
HUBER = """
import torch
from torch.nn import functional as F
from tickdsl.extending import Regress, TaskMetric

class Huber(Regress):
    metrics = (TaskMetric("mae", higher_is_better=False), *Regress.metrics)

    def loss(self, outputs, targets):
        return F.smooth_l1_loss(outputs, targets)

    def sums(self, outputs, targets):
        errors = (outputs - targets).abs().double().mean(1)
        return torch.cat([errors.sum(0, keepdim=True), super().sums(outputs, targets)])

    def figures(self, sums, count):
        return {"mae": sums[0] / count, **super().figures(sums[1:], count)}
"""


def runner(sandbox: Any, tmp_path: Path, text: str, head: str = HEAD, change: str = "pass", **more: str) -> StepRunner:
    module = sandbox.module(PLUGIN.format(change=change))
    return step_runner(tmp_path, text, head=head.format(module=module, **more))


def test_a_plan_of_a_regression_runs_all_its_steps(sandbox: Any, tmp_path: Path) -> None:
    """A rewound ticket, an evaluated one, and the measurements that fit."""
    found = runner(
        sandbox, tmp_path,
        "arm ticket { prune weights global 50% by snip; rewind weights to 1ep }\n"
        "arm shot { prune weights global 30% by grasp }\n"
        "compare all, dense, random-init\nreport accuracy, barrier, early-stop, pruned, memory\n",
    )  # fmt: skip
    figures: dict[str, Any] = {}
    for key in found.study.graph:
        metrics, step = found.metrics(key), found.study.step(key)
        assert step.args["data"]["task"] == "regress" if "data" in step.args else True
        if step.operation in ("train", "evaluate") and "stop" not in step.args:
            assert metrics["metric"] == "rmse" and metrics["score"] == metrics["figures"]["rmse"]
            assert set(metrics["figures"]) == {"rmse", "r2", "loss"} and "accuracy" not in metrics
            assert metrics["loss"] == pytest.approx(metrics["score"] ** 2, rel=1e-5)
            assert "correct" not in metrics and metrics["chance"] > 1
        if step.operation == "train" and "stop" not in step.args:
            scores = [row[3] for row in metrics["epochs"]]
            assert metrics["score"] == scores[-1] and metrics["best_score"] == min(scores)
        if "figures" in metrics:
            figures |= metrics["figures"]
    assert {"barrier.rmse.01", "barrier", "pruned", "memory.training"} <= set(figures)
    assert all(math.isfinite(value) for value in figures.values())


def test_filters_are_pruned_and_a_student_is_distilled(sandbox: Any, tmp_path: Path) -> None:
    found = runner(
        sandbox, tmp_path, "prune filters local 30% by taylor; rewind weights to 1ep\n"
        "distill from dense temperature=2 weight=0.5\n", head=SMALL,
    )  # fmt: skip
    (key,) = (key for key in found.study.graph if "distill" in found.study.step(key).args)
    assert math.isfinite(found.metrics(key)["score"]) and found.metrics(key)["params"] < 10**5


def test_the_task_is_part_of_the_data_and_classification_has_no_word(sandbox: Any, tmp_path: Path) -> None:
    classified = step_runner(tmp_path, "prune weights 50%; rewind lr").study
    assert all("task" not in classified.step(key).args.get("data", {}) for key in classified.graph)
    regressed, labelled = (
        datasets.fingerprint(f"{sandbox.module(PLUGIN.format(change=change))}:spots", root=tmp_path)
        for change in ("pass", 'raw = attrs.evolve(raw, class_names=("row", "column"))')
    )
    assert regressed != labelled


@pytest.mark.parametrize("by", ["quoted", "entry point"])
def test_a_task_of_ones_own_has_its_loss_and_its_metric(sandbox: Any, tmp_path: Path, by: str) -> None:
    module = sandbox.module(HUBER)
    if by == "entry point":
        sandbox.install("box", tasks={"huber": f"{module}:Huber"})
    name = "huber" if by == "entry point" else f"{module}:Huber"
    found = runner(
        sandbox, tmp_path, "prune weights 50% by snip; rewind weights to 1ep\n",
        change=f'raw = attrs.evolve(raw, task="{name}")',
    )  # fmt: skip
    key = found.measured_step("ticket", 1)
    metrics, args = found.metrics(key), found.study.step(key).args
    assert metrics["metric"] == "mae" and metrics["score"] == metrics["figures"]["mae"]
    assert metrics["figures"]["mae"] <= metrics["figures"]["rmse"]
    assert metrics["loss"] < 0.5 * metrics["figures"]["rmse"] ** 2 + 1e-6  # Huber's is at most half the square
    assert args["data"]["task"] == name and args["code"]["task"].startswith(f"{module}:Huber")
    assert HUBER.strip().count("\n") < 25


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            "raw = attrs.evolve(raw, train_inputs=np.array(['a text'] * 96))",
            "train_inputs is <U6 .96.(.|\n)*into tokens",
        ),
        ("raw.train_targets[3, 1] = np.nan", r"train_targets has \[.*nan\] at 3"),
        ("raw.test_targets[:, 0] = 2", "test_targets has an output with one value only"),
        ("raw = attrs.evolve(raw, test_targets=raw.test_targets[:, :1])", "train_targets has shape .2. per input"),
        ("raw = attrs.evolve(raw, train_targets=raw.train_targets[:5])", "train has 96 images and 5 targets"),
        ("raw = attrs.evolve(raw, train_targets=np.float32(3))", "train has 96 images and 1 target"),
        ('raw = attrs.evolve(raw, class_names=("row",))', "train_targets has 2 numbers per image"),
        ('raw = attrs.evolve(raw, task="regres")', "unknown task `regres`"),
        ('raw = attrs.evolve(raw, task="classify")', r"train_targets is float64 \[96, 2\]"),
    ],
)
def test_targets_that_do_not_fit_are_one_message(sandbox: Any, tmp_path: Path, change: str, problem: str) -> None:
    module = sandbox.module(PLUGIN.format(change=change))
    with pytest.raises(TickdslError, match=problem):
        datasets.load(f"{module}:spots", root=tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("prune weights 50%; rewind lr\nreport robustness", "`report robustness` measures classifiers"),
        ("prune weights 50% x 3; rewind lr\nstop when accuracy < 50%", "has no accuracy: its task is regress"),
        ("prune weights 50% x 3; rewind lr\nstop when drop > 1%", "`drop > 1%`: the rmse is no percentage"),
        ("prune weights 50% until drop > 1%; rewind lr", "`drop > 1%`: the rmse is no percentage"),
        ("prune weights 50% by grasp-halves at init", "`by grasp-halves` halves the classes"),
        ("split classes 2; prune weights 50%; overlap; rewind weights to init", "`split classes`: .* has no classes"),
        (
            "prune weights 50%; rewind lr; transfer to digits head=keep",
            "the outputs of .* are those of the task regress",
        ),
        ("train 1ep label-smoothing=0.1", "label-smoothing=0.1: the loss of the task regress has none"),
    ],
)
def test_what_the_task_does_not_have_is_refused_before_the_run(
    sandbox: Any, tmp_path: Path, text: str, problem: str
) -> None:
    head = HEAD if not text.startswith("train") else HEAD.rpartition("train")[0]
    with pytest.raises(TickdslError, match=problem):
        runner(sandbox, tmp_path, text if not text.startswith("train") else f"{text}\nprune weights 50%", head=head)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("def task():\n    return 3\n", "returns an int, not a task"),
        ("from tickdsl.extending import Task as task\n", "has no metric"),
        ("def task():\n    raise ValueError('no')\n", "raised ValueError: no"),
    ],
)
def test_a_task_that_is_none_is_one_message(sandbox: Any, body: str, problem: str) -> None:
    with pytest.raises(PluginError, match=problem):
        find_task(f"{sandbox.module(body)}:task")


def test_a_quoted_task_needs_permission(sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sandbox.module(HUBER)
    monkeypatch.setattr(permission, "_allowed", False)
    with pytest.raises(PluginError, match="needs permission to run"):
        find_task(f"{module}:Huber")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("F.smooth_l1_loss(outputs, targets)", "outputs.nothing", "raised AttributeError: .*'nothing'"),
        (
            "F.smooth_l1_loss(outputs, targets)",
            "(outputs - targets) ** 2",
            r"loss returns float32 \[2, 2\], not a scalar",
        ),
        ("F.smooth_l1_loss(outputs, targets)", "3", "loss returns an int, not a scalar"),
        ("super().sums(outputs, targets)])", "super().sums(outputs, targets)]).float()", r"sums returns float32 \[8\]"),
        ('"mae": sums[0] / count, ', "", "the figures lack mae"),
        ("sums[0] / count", "float('nan')", "the figure mae is nan"),
        ("**super().figures(sums[1:], count)", "", "the figures lack loss"),
    ],
)
def test_a_mistake_in_a_task_is_found_by_check(sandbox: Any, old: str, new: str, problem: str) -> None:
    module = sandbox.module(HUBER.replace(old, new))
    data = sandbox.module(PLUGIN.format(change=f'raw = attrs.evolve(raw, task="{module}:Huber")'))
    plan = f'model lenet-300-100\ndata "{data}:spots"\ntrain 1ep lr=0.1\nprune weights 50%; rewind lr\n'
    (found,) = (finding for finding in sandbox.check(plan).diagnostics if finding.severity == "error")
    assert re.search(problem, found.message), found


def test_a_figure_that_goes_missing_later_is_named(sandbox: Any, tmp_path: Path) -> None:
    change = "**({'mae': sums[0] / count} if count == 2 else {}), "
    module = sandbox.module(HUBER.replace('"mae": sums[0] / count, ', change))
    found = runner(
        sandbox, tmp_path, "prune weights 50%; rewind lr\n", change=f'raw = attrs.evolve(raw, task="{module}:Huber")'
    )
    with pytest.raises(TickdslError, match="lack mae"):
        found.metrics(found.measured_step("dense", 0))


def test_the_built_in_tasks_have_their_own_names() -> None:
    assert {name: task.name for name, task in TASKS.items()} == {name: name for name in TASKS}
    assert all(task.metrics and task.primary is task.metrics[0] for task in TASKS.values())


def test_the_compared_metric_is_one_of_the_task(sandbox: Any, tmp_path: Path) -> None:
    """`check` finds it with its place; what skips `check` stops before the first step."""
    data = sandbox.module(PLUGIN.format(change="pass"))
    head = HEAD.format(module=data)
    rest = "seeds 3\nprune weights 50%; rewind lr\ncompare all within=1% metric="
    (found,) = (finding for finding in sandbox.check(f"{head}{rest}rmsee").diagnostics if finding.severity == "error")
    assert (found.code, found.label) == ("TD470", "did you mean `rmse`?")
    assert "its task is regress" in found.message and found.help is not None and "rmse, r2 or loss" in found.help
    for metric in ("rmse", "r2", "loss"):
        assert not [f for f in sandbox.check(f"{head}{rest}{metric}").diagnostics if f.severity == "error"]
    with pytest.raises(TickdslError, match="has no metric `accuracy`: its task is regress"):
        runner(sandbox, tmp_path, f"{rest}accuracy")


def test_another_metric_needs_no_other_steps(sandbox: Any, tmp_path: Path) -> None:
    text = "prune weights 50%; rewind lr\ncompare all within=1%"
    module = sandbox.module(PLUGIN.format(change="pass"))
    one, two = (
        step_runner(tmp_path, text + option, head=HEAD.format(module=module)).study for option in ("", " metric=r2")
    )
    assert set(one.graph) == set(two.graph)
    events = [plan_resolved_event(study, lambda key: False) for study in (one, two)]
    assert [event.metric for event in events] == ["", "r2"]
    assert {task.name for event in events for task in event.tasks.values()} == {"regress"}


def test_a_run_of_a_regression_is_reported_exported_and_evaluated(
    sandbox: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the plan to the file: every reader gives the score of the stored result."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    module = sandbox.module(PLUGIN.format(change="pass"))
    text = HEAD.format(module=module) + "seeds 1\nprune weights 50%; rewind weights to 1ep\ncompare all within=5%\n"
    results = tickdsl.run(text, allow_code=True)
    level = results.best()
    assert (level.arm.task, level.arm.metric, level.accuracy) == ("regress", "rmse", None)
    metrics = level.seed().metrics
    assert metrics["score"] == metrics["rmse"] and metrics["r2"] is not None
    assert "RMSE ↓" in str(results) and (results.folder / "score.svg").exists()
    path = results.export(tmp_path / "spots.safetensors")
    ticket = tickdsl.open_ticket(path)
    assert ticket.metrics["metric"] == "rmse" and ticket.metrics["score"] == metrics["score"]
    assert "RMSE" in repr(ticket) and "accuracy" not in repr(ticket)
    data = datasets.load(f"{module}:spots", root=tmp_path, options={"train": 96})
    found = evaluate_file(path, data, "spots")
    assert (found.accuracy, found.metric, found.images) == (None, "rmse", 40)
    assert found.score == pytest.approx(metrics["score"], rel=1e-5) and found.stored == metrics["score"]


def test_a_drop_is_in_the_unit_of_the_primary_metric(sandbox: Any, tmp_path: Path) -> None:
    """A lower RMSE is better, so the drop is how much higher that of the ticket is."""
    found = runner(sandbox, tmp_path, "prune weights 60% x 2; rewind lr\nstop when drop > 0.01\n")
    assert [level.task for level in found.study.levels] == ["regress"] * 2
    level = found.study.levels[0]
    ticket, dense = found.metrics(level.ticket), found.metrics(level.dense)
    known = {level.ticket: ticket, level.dense: dense}
    assert drop(ticket, dense, level.task) == pytest.approx(ticket["score"] - dense["score"])
    assert arm_ends(found.study, level, known.get) is (ticket["score"] - dense["score"] > 0.01)


def test_check_says_the_unit_of_a_drop(sandbox: Any) -> None:
    module = sandbox.module(PLUGIN.format(change="pass"))
    plan = f'model lenet-300-100\ndata "{module}:spots"\ntrain 1ep lr=0.1\nprune weights 50% x 2; rewind lr\n'
    for bound, expected in (("1%", ["TD439"]), ("0.5", [])):
        report = sandbox.check(f"{plan}stop when drop > {bound}\n")
        assert [finding.code for finding in report.diagnostics if finding.severity == "error"] == expected


OWN_HEAD = (
    'model lenet-300-100\ndata "{module}:spots" train=96\ntrain 1ep lr=0.01 batch=32\nseeds 1\n'
    "prune weights 50%; rewind lr\n"
)


def test_metrics_of_an_own_task_are_reported(sandbox: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the check, the table, the report and the results; they need no other steps."""
    monkeypatch.chdir(tmp_path)
    task = sandbox.module(HUBER)
    plugin = PLUGIN.format(change="pass").replace('task="regress"', f'task="{task}:Huber"')
    head = OWN_HEAD.format(module=sandbox.module(plugin))
    text = f"{head}report rmse, r2, params\n"
    assert not [f for f in sandbox.check(text).diagnostics if f.severity == "error"]
    results = tickdsl.run(text, allow_code=True)
    level = results.best()
    assert level.arm.metric == "mae" and level.seed().metrics["r2"] is not None
    report = (results.folder / "report.html").read_text("utf-8")
    assert "R²" in report and "RMSE" in report


@pytest.mark.parametrize(
    ("written", "label", "help"),
    [("rmes", "rmse", "use mae, rmse, r2 or loss"), ("latncy", "latency", ""), ("miou", "", "use mae, rmse")],
)
def test_metrics_that_an_own_task_lacks_are_one_finding(sandbox: Any, written: str, label: str, help: str) -> None:
    task = sandbox.module(HUBER)
    plugin = PLUGIN.format(change="pass").replace('task="regress"', f'task="{task}:Huber"')
    text = f"{OWN_HEAD.format(module=sandbox.module(plugin))}report {written}\n"
    (found,) = [f for f in sandbox.check(text).diagnostics if f.severity == "error"]
    assert found.code == "TD473" and f"no arm has {written}" in found.message
    assert label in (found.label or "") and help in (found.help or "")


def test_metrics_of_own_tasks_need_data_of_ones_own(sandbox: Any) -> None:
    text = "model small-cnn on digits\nprune filters 30%; rewind lr\nreport mae\n"
    (found,) = [f for f in sandbox.check(text).diagnostics if f.severity == "error"]
    assert found.code == "TD114"
