"""Patience, and the validation loss within epochs: what they look at, and that interruptions change nothing."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from tickdsl.errors import TickdslError
from tickdsl.training import models
from tickdsl.training.checkpoints import Checkpointer
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.history import EpochReport, TrainingHistory
from tickdsl.training.job import TrainingJob
from tickdsl.training.loop import train
from tickdsl.training.measured_choices import InMemoryChoices
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.stacked.eligibility import stacking_obstacle
from tickdsl.training.tasks import CLASSIFY, Regress
from tickdsl.training.validation import patience_is_over

OPTIONS = {"size": 8, "channels": 1, "train": 160, "test": 40, "classes": 4, "validation": 0.25}
#: The learning rate is high, so that the validation loss soon gets worse.
RECIPE = Recipe(length="12ep", lr=0.5, batch=32, augment=("flip",), patience="2ep")


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def data() -> Dataset:
    return datasets.load("synthetic", options=OPTIONS)


def network() -> nn.Module:
    return nn.Sequential(nn.Dropout(0.1), models.create("small-cnn", classes=4, shape=(1, 8, 8), seed=0))


def report(loss: float, accuracy: float = 0.5) -> EpochReport:
    return EpochReport(
        epoch=1, epochs=9, step=1, train_loss=1.0, test_loss=None, test_accuracy=None, lr=0.1, seconds=0.0,
        validation={"loss": loss, "accuracy": accuracy, "rmse": loss},
    )  # fmt: skip


@given(st.lists(st.floats(0, 5) | st.just(math.nan), min_size=1, max_size=12), st.integers(1, 4))
def test_patience_is_over_when_so_many_epochs_have_brought_no_improvement(losses: list[float], patience: int) -> None:
    recipe = attrs.evolve(RECIPE, patience=f"{patience}ep")
    known = [loss if loss == loss else math.inf for loss in losses]
    expected = len(known) - 1 - known.index(min(known)) >= patience
    if not all(loss == math.inf for loss in known):
        assert patience_is_over([report(loss) for loss in losses], recipe, CLASSIFY) is expected


def test_the_metric_has_a_direction() -> None:
    by_metric = attrs.evolve(RECIPE, patience="1ep", monitor="metric")
    rising = [report(1.0, 0.5), report(2.0, 0.6)]
    assert not patience_is_over(rising, by_metric, CLASSIFY)
    assert patience_is_over(rising, by_metric, Regress())  # the error rises
    assert patience_is_over(rising, attrs.evolve(RECIPE, patience="1ep"), CLASSIFY)


def test_a_training_stops_when_its_patience_is_over(data: Dataset) -> None:
    model, shorter = network(), network()
    history = train(model, data, RECIPE, seed=1)
    losses = [epoch.validation["loss"] for epoch in history.epochs]
    assert 2 < len(losses) < 12
    assert losses.index(min(losses)) == len(losses) - 3
    assert history.stop == len(losses) * history.steps_per_epoch
    same = train(shorter, data, attrs.evolve(RECIPE, patience="0ep"), seed=1, stop=history.stop)
    assert history.figures == same.figures
    assert [e.validation for e in history.epochs] == [e.validation for e in same.epochs]
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, shorter.state_dict()[name]), name


def test_later_rewinding_points_get_the_last_weights(data: Dataset) -> None:
    model, states = network(), []
    history = train(model, data, RECIPE, seed=1, step_callbacks={11 * 4: lambda state: states.append(dict(state))})
    assert history.stop < 11 * 4
    (state,) = states
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_measuring_within_epochs_changes_nothing_and_has_the_losses_after_epochs(data: Dataset) -> None:
    plain, measured = network(), network()
    recipe = attrs.evolve(RECIPE, patience="0ep", length="3ep")
    expected = train(plain, data, recipe, seed=1)
    history = train(measured, data, recipe, seed=1, measure_every=2)
    assert history.epochs == expected.epochs
    assert all(torch.equal(tensor, plain.state_dict()[name]) for name, tensor in measured.state_dict().items())
    by_step = {row[0]: row for row in history.loss_curve}
    assert list(by_step) == [2, 4, 6, 8, 10, 12]
    for epoch in history.epochs:
        assert by_step[epoch.step][1:3] == (epoch.validation["loss"], epoch.validation["accuracy"])
    lowest = math.inf
    for _, loss, _, tested in history.loss_curve:
        assert (tested is not None) is (loss < lowest)
        lowest = min(lowest, loss)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(interruptions=st.lists(st.integers(0, 20), min_size=1, max_size=4))
def test_interrupted_trainings_end_as_uninterrupted_ones(
    data: Dataset, tmp_path: Path, interruptions: list[int]
) -> None:
    folder = Path(tempfile.mkdtemp(dir=tmp_path))

    def run(model: nn.Module, stop_at: int | None, **more: Any) -> TrainingHistory:
        steps = 0

        def before_step() -> None:
            nonlocal steps
            if steps == stop_at:
                raise Stop
            steps += 1

        return train(model, data, RECIPE, seed=1, measure_every=3, before_step=before_step, **more)

    expected, resumed = network(), network()
    history = run(expected, None)
    remaining = history.stop
    for stop_at in interruptions:
        if stop_at < remaining:
            with pytest.raises(Stop):
                run(network(), stop_at, checkpoint=Checkpointer(folder, every_seconds=0))
            remaining -= stop_at
    assert run(resumed, None, checkpoint=Checkpointer(folder, every_seconds=0)) == history
    assert all(torch.equal(tensor, expected.state_dict()[name]) for name, tensor in resumed.state_dict().items())


@pytest.mark.parametrize("recipe, every", [(RECIPE, 0), (attrs.evolve(RECIPE, patience="0ep"), 5)])
def test_without_validation_data_there_is_nothing_to_look_at(recipe: Recipe, every: int) -> None:
    plain = datasets.load("synthetic", options={**OPTIONS, "validation": 0.0})
    with pytest.raises(TickdslError, match="validation data, and synthetic has none") as raised:
        train(network(), plain, recipe, seed=1, measure_every=every)
    assert raised.value.hint == "add `validation=10%` to `data`"


def test_trainings_that_end_by_themselves_are_not_stacked(data: Dataset) -> None:
    jobs = [TrainingJob(model=network(), data=data, recipe=RECIPE, seed=seed) for seed in (1, 2)]
    assert "patience" in (stacking_obstacle(jobs, InMemoryChoices(), torch.device("cpu")) or "")
    recipe = attrs.evolve(RECIPE, patience="0ep")
    jobs = [attrs.evolve(job, recipe=recipe, measure_every=5) for job in jobs]
    assert "within epochs" in (stacking_obstacle(jobs, InMemoryChoices(), torch.device("cpu")) or "")


@pytest.mark.parametrize("patience", ["3it", "1.5ep", "10%"])
def test_patience_is_in_whole_epochs(patience: str) -> None:
    with pytest.raises(ValueError, match="whole epochs"):
        attrs.evolve(RECIPE, patience=patience)
