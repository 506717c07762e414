"""What holds for every task: trainings continue, arms share steps, trainings stack, criteria rank, students learn."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
import torch
from killed_steps import assert_continues_bit_for_bit
from plugin_task_cases import PLUGIN_CASES
from step_runner import StepRunner, step_runner
from task_cases import TASK_CASES, TaskCase

from tickdsl.engine.steps.trainings import prepare_training
from tickdsl.errors import TickdslError
from tickdsl.lang.registries import CRITERIA
from tickdsl.plugins import permission
from tickdsl.training.history import TrainingHistory
from tickdsl.training.job import TrainingJob
from tickdsl.training.loop import train
from tickdsl.training.measured_choices import InMemoryChoices
from tickdsl.training.stacked.eligibility import stacking_obstacle
from tickdsl.training.stacked.training import train_stacked
from tickdsl.training.tasks import find_task

CPU = torch.device("cpu")
CASES = {case.name: case for case in (*TASK_CASES, *PLUGIN_CASES)}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
#: Criteria of all kinds: by weights, by gradients of the loss, by second derivatives, and without data.
RANKING = ("magnitude", "snip", "taylor", "grasp", "synflow")


@pytest.fixture(autouse=True)
def code_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permission, "_allowed", True)


def runner(folder: Path, case: TaskCase, text: str, seeds: int = 1) -> StepRunner:
    return step_runner(folder, text, head=f"{case.head}\nseeds {seeds}\n")


def refused_or(case: TaskCase, what: str, work: Callable[[], None]) -> None:
    """Do the work; what the case refuses must be refused, with a reason and a way out."""
    if what not in case.refuses:
        work()
        return
    with pytest.raises(TickdslError) as raised:
        work()
    assert raised.value.message and raised.value.hint


@every_case
@pytest.mark.parametrize("part", ["dense", "ticket"])
def test_a_killed_training_continues_bit_for_bit(case: TaskCase, part: str, tmp_path: Path) -> None:
    text = f"prune {case.units[0]} global 30% x 2\nrewind weights to init\n"
    whole, broken = (runner(tmp_path / name, case, text) for name in ("whole", "broken"))
    key = whole.measured_step("dense", 0) if part == "dense" else whole.levels("ticket")[0].ticket
    steps = whole.metrics(key)["steps"]
    assert_continues_bit_for_bit(broken, whole, key, killed_at=(1, steps // 2))


@every_case
def test_two_arms_share_the_dense_training_and_what_they_have_in_common(case: TaskCase, tmp_path: Path) -> None:
    unit = case.units[0]
    both = runner(
        tmp_path, case,
        f"arm one {{ prune {unit} global 30% x 2; rewind weights to init }}\n"
        f"arm two {{ prune {unit} global 30%; rewind lr }}\ncompare all, random-init, dense\n",
    )  # fmt: skip
    alone = runner(tmp_path, case, f"arm one {{ prune {unit} global 30% x 2; rewind weights to init }}\ncompare all\n")
    assert set(alone.study.graph) < set(both.study.graph)
    assert both.measured_step("dense", 0, "one") == both.measured_step("dense", 0, "two")
    assert both.levels("one")[0].structure == both.levels("two")[0].structure
    measured = {m.step for m in both.study.measurements}
    tasks = {both.study.step(key).args["data"].get("task", "classify") for key in measured}
    assert tasks == {case.task}


@every_case
def test_stacked_trainings_end_as_each_alone(case: TaskCase, tmp_path: Path) -> None:
    found = runner(tmp_path, case, f"prune {case.units[0]} global 30%\nrewind lr\n", seeds=2)
    steps = [found.study.step(found.measured_step("dense", 0, seed=seed)) for seed in (1, 2)]
    for parent in (parent for step in steps for parent in step.parents.values()):
        found.run_step(parent)

    def jobs() -> list[TrainingJob]:
        # Checkpoints belong to the step, not to the job: both kinds of trainings start anew.
        return [attrs.evolve(prepare_training(step, found.context, {}).job, checkpoint=None) for step in steps]

    alone, together = jobs(), jobs()
    obstacle = stacking_obstacle(together, InMemoryChoices(), CPU)
    if "stack" in case.refuses:
        assert obstacle
        return
    assert obstacle is None
    for job, other, history in zip(alone, together, train_stacked(together, InMemoryChoices()), strict=True):
        single = train(**job.as_kwargs())
        assert isinstance(history, TrainingHistory) and history.stack_size == 2
        for a, b in zip(job.model.parameters(), other.model.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-3)
        for report, stacked in zip(single.epochs, history.epochs, strict=True):
            assert stacked.train_loss == pytest.approx(report.train_loss, rel=1e-2, abs=1e-3)


@every_case
@pytest.mark.parametrize("criterion", RANKING)
def test_criteria_rank_what_the_task_has(case: TaskCase, criterion: str, tmp_path: Path) -> None:
    units = [unit for unit in case.units if unit in CRITERIA[criterion].units]
    assert units
    for unit in units:
        moment = "" if "training" in CRITERIA[criterion].needs else " at init"
        text = f"prune {unit} local 30% by {criterion}{moment}\nrewind lr\n"
        found = runner(tmp_path / unit, case, text)

        def work(found: StepRunner = found) -> None:
            level = found.levels("ticket")[0]
            structure = found.structure(level.structure)
            network = found.context.dense_network(found.study.step(level.structure))
            assert structure != type(structure).dense(network.graph)
            assert all(weights.isfinite().all() for weights in found.weights(level.ticket).values())

        refused_or(case, criterion, work)


@every_case
def test_a_student_learns_from_its_teacher(case: TaskCase, tmp_path: Path) -> None:
    text = f"prune {case.units[0]} global 30%\nrewind lr\ndistill from dense weight=0.5\n"

    def work() -> None:
        found = runner(tmp_path, case, text)
        key = found.levels("ticket")[0].ticket
        assert "distill" in found.study.step(key).args
        metrics = found.metrics(key)
        task = find_task(case.task)
        score = metrics["accuracy"] if case.task == "classify" else metrics["score"]
        assert math.isfinite(score) and math.isfinite(metrics["loss"])
        assert case.task == "classify" or metrics["metric"] == task.primary.name

    refused_or(case, "distill", work)


@every_case
def test_a_loss_that_is_not_finite_is_one_message(case: TaskCase, tmp_path: Path) -> None:
    """A learning rate so large that the weights overflow: the result would be worth nothing."""
    head = re.sub(r"lr=\S+", "lr=1e30", case.head)
    found = runner(tmp_path, attrs.evolve(case, head=head), f"prune {case.units[0]} global 30%\nrewind lr\n")
    with pytest.raises(TickdslError, match=r"the training diverged: the loss is (nan|inf|-inf) in epoch 1") as raised:
        found.run_step(found.measured_step("dense", 0))
    assert raised.value.hint
