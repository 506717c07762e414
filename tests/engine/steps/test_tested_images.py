"""Results tell which test images are right, what chance is, and which tensors are not finite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from step_runner import step_runner

from tickdsl.engine.steps.tested_images import judged_images
from tickdsl.records.image_flags import decode_flags
from tickdsl.training import models
from tickdsl.training.async_evaluation import EpochSums
from tickdsl.training.data import datasets
from tickdsl.training.evaluation import evaluate
from tickdsl.training.job import TrainingJob
from tickdsl.training.loop import train
from tickdsl.training.measured_choices import InMemoryChoices
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.stacked.training import train_stacked


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_chance_is_the_most_frequent_class(labels: list[int]) -> None:
    metrics = judged_images(None, torch.tensor(labels), {})
    assert metrics == {"test_images": len(labels), "chance": max(labels.count(c) for c in labels) / len(labels)}


def test_tensors_that_are_not_finite_are_named() -> None:
    state = {
        "weight": torch.ones(2),
        "bn.running_var": torch.tensor([1.0, float("inf")]),
        "bn.count": torch.tensor(3),
        "bias": torch.tensor([float("nan")]),
    }
    assert judged_images(None, torch.tensor([0, 1]), state)["not_finite"] == ["bn.running_var", "bias"]


@pytest.mark.parametrize("text", ["prune weights 50%; rewind lr", "prune weights 50%"])
def test_a_stored_result_has_a_bit_for_every_test_image(tmp_path: Path, text: str) -> None:
    """The second plan has no training after its prune: its ticket is evaluated."""
    found = step_runner(tmp_path, text)
    for key in (found.measured_step("dense", 0), found.measured_step("ticket", 1)):
        metrics = found.metrics(key)
        right = decode_flags(metrics["correct"]).bit_count()
        assert metrics["accuracy"] == right / metrics["test_images"]
        assert 0 < metrics["chance"] < 1 and "not_finite" not in metrics


def _jobs(number: int) -> list[TrainingJob]:
    data = datasets.load("synthetic", options={"size": 8, "channels": 1, "train": 64, "test": 1100, "classes": 4})
    recipe = Recipe(length="2ep", lr=0.05, batch=16)
    return [
        TrainingJob(
            model=models.create("small-cnn", classes=4, shape=(1, 8, 8), seed=seed, options={"width": 0.25}),
            data=data,
            recipe=recipe,
            seed=seed,
        )
        for seed in range(number)
    ]


class Later:
    """An evaluator that works when it is waited for."""

    def has_memory(self) -> bool:
        return True

    def __call__(self, work: Callable[[], torch.Tensor]) -> EpochSums:
        sums = torch.full((3,), float("nan"), dtype=torch.float64)

        class Event:
            def query(self) -> bool:
                return False

            def synchronize(self) -> None:
                sums.copy_(work())

        return EpochSums(sums, Event())


@pytest.mark.parametrize("how", ["alone", "late", "stacked"])
def test_the_bits_are_those_of_the_trained_network(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More test images than one evaluation batch, and each training of a stack has its own."""
    if how == "late":
        monkeypatch.setattr("tickdsl.training.epoch_evaluation.async_evaluator", lambda device: Later())
    jobs = _jobs(3 if how == "stacked" else 1)
    histories = (
        train_stacked(jobs, InMemoryChoices()) if how == "stacked" else [train(**job.as_kwargs()) for job in jobs]
    )
    for job, history in zip(jobs, histories, strict=True):
        again = evaluate(
            job.model, job.data.test_inputs, job.data.test_targets, preprocess=job.data.preprocess()
        ).scores
        assert history.scores is not None and again is not None
        assert (history.scores != again).sum() <= (2 if how == "stacked" else 0)  # rounding
        assert history.scores.double().mean().item() == history.epochs[-1].test_accuracy
