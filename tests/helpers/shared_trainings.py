"""Small trainings in float64, by one process or by several, and whether they end alike."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tickdsl.training import models
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.job import TrainingJob
from tickdsl.training.loop import train
from tickdsl.training.parallel.ranks import Ranks
from tickdsl.training.recipes.recipe import Recipe

#: 4 batches, of 12, 12, 12 and 2 images: of the last, not every process has one.
RECIPE = Recipe(length="1ep", lr=0.05, batch=12, decay=5e-4, schedule="cosine")


class Precise(nn.Module):
    """A network that computes in float64. rounded: its outputs are float32, as weights of classes are."""

    def __init__(self, network: nn.Module, *, rounded: bool = False) -> None:
        super().__init__()
        self.network, self.rounded = network.double(), rounded

    def forward(self, inputs: Tensor) -> Any:
        outputs = self.network(inputs.double() if inputs.is_floating_point() else inputs)
        return outputs.float() if self.rounded else outputs


@functools.cache
def images() -> Dataset:
    return datasets.load("synthetic", options={"size": 8, "channels": 1, "train": 38, "test": 15, "classes": 3})


def small_cnn(seed: int = 0, *, rounded: bool = False) -> nn.Module:
    network = models.create("small-cnn", classes=3, shape=(1, 8, 8), seed=seed, options={"width": 0.5})
    return Precise(network, rounded=rounded)


def half_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach() > 0 for name, p in model.named_parameters() if p.dim() > 1}


def job(
    recipe: Recipe = RECIPE, data: Dataset | None = None, model: nn.Module | None = None, **more: Any
) -> TrainingJob:
    return TrainingJob(
        model=model or small_cnn(), data=data or images(), recipe=recipe, seed=3, layout="contiguous", **more
    )


def outcome(training: TrainingJob, ranks: Ranks | None = None, **more: Any) -> dict[str, Any]:
    """What a training ends with: its weights, and what it says of each epoch and of its masks."""
    history = train(**{**training.as_kwargs(), "ranks": ranks}, **more)
    epochs = [[e.train_loss, *e.watched.values()] for e in history.epochs]
    curve = [list(row) for row in history.loss_curve]
    return {
        "weights": training.model.state_dict(), "epochs": epochs, "curve": curve, "stop": history.stop,
        "scores": history.scores, "masks": history.masks, "changes": history.changes, "figures": dict(history.figures),
    }  # fmt: skip


def assert_alike(found: Any, expected: Any, tolerance: float) -> None:
    """Equal, but for numbers that differ by at most `tolerance`, relative to the largest of their tensor or list."""
    if isinstance(expected, Mapping):
        assert found.keys() == expected.keys()
        for name in expected:
            assert_alike(found[name], expected[name], tolerance)
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_alike(one, other, tolerance)
    elif isinstance(expected, Tensor) and expected.is_floating_point():
        loose = tolerance if expected.dtype == torch.float64 else 2e-5 * bool(tolerance)
        bound = loose * max(1.0, float(expected.abs().max())) if expected.numel() else 0.0
        assert float((found - expected).abs().max()) <= bound if expected.numel() else len(found) == 0
    elif isinstance(expected, Tensor):
        assert torch.equal(found, expected)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=2e-5 * bool(tolerance), abs=1e-6 * bool(tolerance))
    else:
        assert found == expected
