"""Compiled trainings: equal up to rounding, compiled once each, and bit-identical when resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tickdsl.errors import TickdslError
from tickdsl.training import models
from tickdsl.training.checkpoints import Checkpointer
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.loop import train
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.step import optimiser_step
from tickdsl.training.step.compilation import compile_model

#: Two full batches and a smaller one per epoch.
RECIPE = Recipe(length="2ep", lr=0.05, batch=32, decay=5e-4, compile="on")


@pytest.fixture(scope="module")
def tiny() -> Dataset:
    return datasets.load("synthetic", options={"size": 8, "channels": 3, "train": 80, "test": 24})


def network(tiny: Dataset, width: float = 0.5) -> nn.Module:
    return models.create("small-cnn", classes=tiny.classes, shape=tiny.shape, seed=1, options={"width": width})


def masks(model: nn.Module) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(3)
    return {name: torch.rand(p.shape, generator=draw) < 0.5 for name, p in model.named_parameters() if p.dim() > 1}


def graphs() -> int:
    """The number of networks compiled in this process."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


@pytest.mark.slow
def test_each_training_is_compiled_once_and_equals_the_uncompiled_one(tiny: Dataset) -> None:
    for width in (0.5, 0.25):  # another shape, as after pruning
        ours, theirs = network(tiny, width), network(tiny, width)
        before = graphs()
        history = train(ours, tiny, RECIPE, seed=2, masks=masks(ours))
        assert graphs() - before == 1, "smaller batches and tests run uncompiled"
        plain = train(
            theirs, tiny, Recipe.from_dict({**RECIPE.to_dict(), "compile": "off"}), seed=2, masks=masks(theirs)
        )
        assert history.epochs[-1].train_loss == pytest.approx(plain.epochs[-1].train_loss, rel=1e-4)
        expected = theirs.state_dict()
        for name, tensor in ours.state_dict().items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_continued_compiled_training_ends_with_the_same_bits(tiny: Dataset, tmp_path: Path) -> None:
    whole, cut = network(tiny), network(tiny)
    train(whole, tiny, RECIPE, seed=2, masks=masks(whole))
    calls = iter(range(100))

    def interrupt() -> None:
        if next(calls) == 4:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(cut, tiny, RECIPE, seed=2, masks=masks(cut), checkpoint=Checkpointer(tmp_path, 0), before_step=interrupt)
    again = network(tiny)
    train(again, tiny, RECIPE, seed=2, masks=masks(again), checkpoint=Checkpointer(tmp_path, 0))
    theirs = whole.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in again.state_dict().items())


def test_a_machine_that_cannot_compile_has_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.exc import TorchDynamoException

    def refuse(images: Tensor) -> Tensor:
        raise TorchDynamoException("no working C++ compiler found\nin a long trace")

    monkeypatch.setattr(torch, "compile", lambda model, dynamic, mode: refuse)
    with pytest.raises(TickdslError, match="cannot compile this network on this machine: no working C") as caught:
        compile_model(nn.Linear(1, 1))(torch.zeros(1))
    assert "set compile=off" in str(caught.value.hint)


def test_compile_off_is_not_written() -> None:
    assert Recipe(length="2ep", compile="off").to_dict() == {"length": "2ep"}
    assert Recipe(length="2ep", compile="auto").to_dict() == {"length": "2ep", "compile": "auto"}


def test_a_continued_training_keeps_to_what_was_chosen(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimiser_step, "compile_model", lambda model: model)
    recipe = Recipe.from_dict({**RECIPE.to_dict(), "compile": "auto"})
    calls = iter(range(100))

    def interrupt() -> None:
        if next(calls) == 4:
            raise InterruptedError

    cut, again = network(tiny), network(tiny)
    with pytest.raises(InterruptedError):
        train(cut, tiny, recipe, seed=2, compile=True, checkpoint=Checkpointer(tmp_path, 0), before_step=interrupt)
    assert train(again, tiny, recipe, seed=2, compile=False, checkpoint=Checkpointer(tmp_path, 0)).compiled
    assert not train(network(tiny), tiny, recipe, seed=2).compiled, "not compiled by default"
