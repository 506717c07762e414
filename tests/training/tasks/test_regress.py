"""Regression: its figures against independent formulas, and trainings that continue, stack, distil and diverge."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from interrupted_trainings import interrupt
from regression_data import spots
from torch import nn
from torch.nn import functional as F

from tickdsl.errors import TickdslError
from tickdsl.training import models
from tickdsl.training.checkpoints import Checkpointer
from tickdsl.training.data.batch_stream import BatchStream
from tickdsl.training.data.datasets import take_part
from tickdsl.training.data.device_dataset import DeviceDataset
from tickdsl.training.data.sample import sample_batches
from tickdsl.training.evaluation import evaluate
from tickdsl.training.history import TrainingHistory
from tickdsl.training.job import TrainingJob
from tickdsl.training.loop import train
from tickdsl.training.measured_choices import InMemoryChoices
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.stacked.eligibility import stacking_obstacle
from tickdsl.training.stacked.training import train_stacked
from tickdsl.training.step.distillation import Distillation
from tickdsl.training.tasks import BadTargets, Regress

RECIPE = Recipe(length="3ep", lr=0.01, batch=16, momentum=0.9)
CPU = torch.device("cpu")
TASK = Regress()
_NUMBERS = st.floats(-1000, 1000, width=32)


def network(seed: int = 0) -> nn.Module:
    return models.create("lenet-300-100", classes=2, shape=(1, 8, 8), seed=seed)


def job(seed: int = 0, **more: Any) -> TrainingJob:
    return TrainingJob(model=network(seed), data=spots(), recipe=more.pop("recipe", RECIPE), seed=seed, **more)


@given(hnp.arrays(np.float32, st.tuples(st.integers(2, 30), st.integers(1, 3)), elements=_NUMBERS), st.data())
def test_rmse_and_r2_by_their_definitions_whatever_the_batches(targets: np.ndarray, data: st.DataObject) -> None:
    if (targets == targets[0]).all(0).any():
        with pytest.raises(BadTargets, match="one value only"):
            TASK.as_targets(targets, ())
        return
    outputs = data.draw(hnp.arrays(np.float32, targets.shape, elements=_NUMBERS))
    cut = data.draw(st.integers(1, len(targets) - 1))
    sums = sum(
        TASK.sums(torch.from_numpy(outputs[part]), torch.from_numpy(targets[part]))
        for part in (slice(cut), slice(cut, None))
    )
    figures = TASK.figures(sums.tolist(), len(targets))  # type: ignore[union-attr]
    wide, known = outputs.astype(np.float64), targets.astype(np.float64)
    errors = (wide - known) ** 2
    assert figures["rmse"] == pytest.approx(math.sqrt(errors.mean()), rel=1e-9)
    assert figures["loss"] == pytest.approx(errors.mean(), rel=1e-5)
    spread = ((known - known.mean(0)) ** 2).mean(0)
    if (spread > 1e-6 * (known**2).mean(0)).all():  # others lose digits, in either formula
        assert figures["r2"] == pytest.approx(float((1 - errors.mean(0) / spread).mean()), rel=1e-6, abs=1e-6)
    assert all(math.isfinite(value) for value in figures.values())


def test_chance_is_the_rmse_of_the_mean_and_no_r2() -> None:
    targets = spots().test_targets
    mean = targets.double().mean(0).float().expand_as(targets)
    figures = TASK.figures(TASK.sums(mean, targets).tolist(), len(targets))
    assert figures["rmse"] == pytest.approx(TASK.chance(targets), rel=1e-6)
    assert figures["r2"] == pytest.approx(0, abs=1e-6)


def test_a_training_is_a_bare_loop_on_the_squared_error_and_learns() -> None:
    ours, bare, data = network(), network(), spots()
    history = train(ours, data, RECIPE, seed=3)
    stream, rates = BatchStream(DeviceDataset(data, RECIPE, CPU), [3]), RECIPE.learning_rates(7).tolist()
    optimizer = torch.optim.SGD(bare.parameters(), 0.01, 0.9, fused=True)
    for step in range(21):
        optimizer.param_groups[0]["lr"] = rates[step]
        images, targets, _ = stream.batch(step)
        optimizer.zero_grad()
        torch.autograd.backward(F.mse_loss(bare(images), targets))
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), bare.parameters(), strict=True))
    first, last = history.epochs[0], history.epochs[-1]
    assert last.test_accuracy is None and set(last.figures) == {"rmse", "r2", "loss"}
    assert last.figures["rmse"] < 0.8 * TASK.chance(data.test_targets) and last.train_loss < first.train_loss
    again = evaluate(
        ours, data.test_inputs, data.test_targets, preprocess=data.preprocess(), task=data.task, batch=1000
    )
    assert again.figures == last.figures and again.score == last.figures["rmse"]
    assert history.scores is not None and again.scores is not None and torch.equal(history.scores, again.scores)
    assert again.scores.double().mean().sqrt().item() == pytest.approx(again.score, rel=1e-5)


def outcome(history: TrainingHistory, model: nn.Module) -> object:
    return history, [tensor.tolist() for tensor in model.state_dict().values()]


@pytest.mark.parametrize("stop_at", [1, 7, 10, 20])
def test_a_training_continues_where_it_was_interrupted(tmp_path: Path, stop_at: int) -> None:
    whole = job()
    expected = outcome(train(**whole.as_kwargs()), whole.model)
    interrupt(job(checkpoint=Checkpointer(tmp_path)), stop_at)
    resumed, taken = job(checkpoint=Checkpointer(tmp_path)), itertools.count()
    history = train(**resumed.as_kwargs(), before_step=lambda: next(taken) and None)
    assert next(taken) == 21 - stop_at
    assert outcome(history, resumed.model) == expected


def test_stacked_trainings_end_as_each_alone() -> None:
    alone, together = ([job(seed) for seed in range(3)] for _ in range(2))
    assert stacking_obstacle(together, InMemoryChoices(), CPU) is None
    histories = train_stacked(together, InMemoryChoices())
    for one, other, stacked in zip(alone, together, histories, strict=True):
        single = train(**one.as_kwargs())
        assert isinstance(stacked, TrainingHistory) and stacked.stack_size == 3
        for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
        assert single.scores is not None and stacked.scores is not None
        torch.testing.assert_close(stacked.scores, single.scores, rtol=1e-2, atol=1e-3)
        for a_report, b_report in zip(single.epochs, stacked.epochs, strict=True):
            assert b_report.figures == pytest.approx(dict(a_report.figures), rel=1e-3)


def test_a_student_follows_the_outputs_of_its_teacher() -> None:
    """With weight 1, targets do not matter: the loss is the squared distance from the teacher."""
    teacher = network(7)
    train(teacher, spots(), RECIPE, seed=7)
    student = job(distillation=Distillation(teacher, temperature=4.0, weight=1.0))
    history = train(**student.as_kwargs())
    data = spots()
    images = (data.test_inputs.float() / 255 - data.mean) / data.std
    with torch.no_grad():
        apart = [
            F.mse_loss(other.eval()(images), teacher.eval()(images)).item() for other in (student.model, network())
        ]
    assert apart[0] < 0.3 * apart[1] and history.epochs[-1].train_loss < history.epochs[0].train_loss


def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    with pytest.raises(TickdslError, match=r"the training diverged: the loss is (nan|inf) in epoch 1"):
        train(**job(recipe=Recipe(length="1ep", lr=1e6, batch=16)).as_kwargs())


def test_what_needs_classes_is_refused() -> None:
    with pytest.raises(TickdslError, match=r"label-smoothing=0.1: the loss of the task `regress` has none"):
        train(**job(recipe=Recipe(length="1ep", lr=0.01, batch=16, label_smoothing=0.1)).as_kwargs())
    with pytest.raises(TickdslError, match=r"`split classes` needs classes, which `spots` has not"):
        take_part(spots(), by="classes", parts=2, index=0)
    part = take_part(spots(), by="samples", parts=2, index=0)
    assert part.train_targets.shape == (50, 2) and part.task.name == "regress" and part.classes_without("test") == ()


def test_a_sample_per_class_is_one_for_ten_classes() -> None:
    draws = [torch.Generator().manual_seed(0) for _ in range(2)]
    per_class = sample_batches(spots(), draws[0], per_class=4, batch=16)
    total = sample_batches(spots(), draws[1], total=40, batch=16)
    assert sum(len(targets) for _, targets in per_class) == 40
    pairs = zip(itertools.chain(*per_class), itertools.chain(*total), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    ("targets", "problem"),
    [
        (np.array(["a", "b"]), "is <U1"),
        (np.zeros((2, 1, 1)), r"is float64 \[2, 1, 1\]"),
        (np.zeros((0, 2)), r"is float64 \[0, 2\]"),
        (np.array([1.0, math.nan]), r"has \[nan\] at 1"),
        (np.array([1.0, 1e300]), r"has \[1e\+300\] at 1"),
        (np.array([[1.0, 2.0], [1.0, 3.0]]), "has an output with one value only"),
        (np.array([[1.0, 2.0], [2.0, 3.0]]), "has 2 numbers per image, but class_names has 1"),
    ],
)
def test_targets_that_are_no_numbers_to_learn_are_refused(targets: np.ndarray, problem: str) -> None:
    with pytest.raises(BadTargets, match=problem):
        TASK.as_targets(targets, ("one",))


def test_targets_become_float32_columns() -> None:
    column = TASK.as_targets(np.array([3, 5]), ())
    assert column.dtype == np.float32 and column.tolist() == [[3.0], [5.0]]
    assert TASK.output_names(column, ()) == ("target 1",) and TASK.output_names(column, ("age",)) == ("age",)
