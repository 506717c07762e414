"""Layers trained as sparse matrices equal the masked dense layers up to rounding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tickdsl.training import models
from tickdsl.training.checkpoints import Checkpointer
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.loop import train
from tickdsl.training.measured_choices import InMemoryChoices
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.step.sparse_layers import SparseLayers, choose_sparse_layers
from tickdsl.training.step.sparse_linear import SparseLinear
from tickdsl.training.timing import speedup

RECIPE = Recipe(length="3ep", lr=0.05, batch=32, momentum=0.9, decay=5e-4, schedule="cosine", augment=("crop",))


@attrs.define
class Always:
    """Gives every question the same answer, and records the questions."""

    answer: bool
    questions: list[str] = attrs.field(factory=list)

    def settle(self, question: str, measure: Callable[[], bool]) -> bool:
        self.questions.append(question)
        return self.answer


@pytest.fixture(scope="module")
def tiny() -> Dataset:
    return datasets.load("synthetic", options={"size": 16, "channels": 1, "train": 100, "test": 40, "classes": 4})


def _network() -> nn.Module:
    return models.create("lenet-300-100", classes=4, shape=(1, 16, 16), seed=0)


def _masks(model: nn.Module, share: float) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(3)
    return {name: torch.rand(p.shape, generator=draw) < share for name, p in model.named_parameters() if p.dim() > 1}


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    rows=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    share=st.sampled_from([0.02, 0.1, 0.5, 1.0]),
    bias=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_outputs_and_gradients_equal_the_masked_layers(
    shape: tuple[int, int], rows: list[int], share: float, bias: bool, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    dense = nn.Linear(*shape, bias=bias, dtype=torch.float32)
    mask = torch.rand(dense.weight.shape, generator=draw) < share
    mask.view(-1)[0] = True
    with torch.no_grad():
        dense.weight.mul_(mask)
    sparse = SparseLinear(dense, mask)
    x = torch.randn(*rows, shape[0], generator=draw).requires_grad_()
    grad_output = torch.randn(*rows, shape[1], generator=draw)
    expected, y = dense(x), sparse(x)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    theirs = torch.autograd.grad(expected, [x, *dense.parameters()], grad_output)
    ours = torch.autograd.grad(y, [x, *sparse.parameters()], grad_output)
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours[1], theirs[1][mask], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours[2:], theirs[2:], rtol=1e-4, atol=1e-4)


def test_the_state_dict_is_that_of_the_dense_layer() -> None:
    dense = nn.Linear(20, 30)
    mask = torch.rand(30, 20, generator=torch.Generator().manual_seed(0)) < 0.2
    with torch.no_grad():
        dense.weight.mul_(mask)
    model = nn.Sequential(nn.ReLU(), SparseLinear(dense, mask))
    state = model.state_dict()
    assert {name: tensor.shape for name, tensor in state.items()} == {
        "1.weight": dense.weight.shape, "1.bias": dense.bias.shape
    }  # fmt: skip
    assert torch.equal(state["1.weight"], dense.weight)
    model.load_state_dict({"1.weight": torch.ones(30, 20), "1.bias": torch.zeros(30)})
    assert torch.equal(model.state_dict()["1.weight"], mask.float())


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("share", [0.09, 0.02])
def test_sparse_training_equals_masked_training(tiny: Dataset, optimizer: str, share: float) -> None:
    recipe = attrs.evolve(RECIPE, optimizer=optimizer, lr=0.05 if optimizer == "sgd" else 1e-3)
    masked, sparse = _network(), _network()
    masks = _masks(masked, share)
    plain = train(masked, tiny, recipe, seed=1, masks=masks, choices=Always(False))
    sparse_history = train(sparse, tiny, recipe, seed=1, masks=masks, choices=Always(True))
    assert plain.sparse == ()
    assert len(sparse_history.sparse) == 2  # the last layer is too small
    assert [type(layer) for layer in sparse.modules()] == [type(layer) for layer in masked.modules()]
    for (name, ours), theirs in zip(sparse.state_dict().items(), masked.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=2e-5, msg=name)
        if name in masks:
            assert not ours[~masks[name]].any()
    for ours, theirs in zip(sparse_history.epochs, plain.epochs, strict=True):
        assert ours.train_loss == pytest.approx(theirs.train_loss, rel=1e-3)
        assert ours.test_loss == pytest.approx(theirs.test_loss, rel=1e-3)


class Stop(Exception):
    """Raised by `before_step` to interrupt a training."""


@pytest.mark.parametrize("first", [True, False])
def test_a_resumed_training_keeps_its_choice(tiny: Dataset, tmp_path: Path, first: bool) -> None:
    whole, cut, model = _network(), _network(), _network()
    masks = _masks(model, 0.05)
    history = train(whole, tiny, RECIPE, seed=1, masks=masks, choices=Always(first))
    steps = iter(range(7))

    def before_step() -> None:
        if next(steps, None) is None:
            raise Stop

    with pytest.raises(Stop):
        train(
            cut, tiny, RECIPE, seed=1, masks=masks, choices=Always(first), before_step=before_step,
            checkpoint=Checkpointer(tmp_path, every_seconds=0),
        )  # fmt: skip
    assert all(type(layer) is not SparseLinear for layer in cut.modules())
    opposite = Always(not first)
    resumed = train(
        model, tiny, RECIPE, seed=1, masks=masks, choices=opposite, checkpoint=Checkpointer(tmp_path)
    )  # fmt: skip
    assert resumed == history
    assert resumed.sparse == history.sparse
    assert not opposite.questions
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), whole.parameters(), strict=True))


def test_step_callbacks_get_dense_weights(tiny: Dataset) -> None:
    model = _network()
    masks = _masks(model, 0.05)
    kept: dict[str, Tensor] = {}
    train(
        model, tiny, RECIPE, seed=1, masks=masks, choices=Always(True),
        step_callbacks={5: lambda state: kept.update({name: tensor.clone() for name, tensor in state.items()})},
    )  # fmt: skip
    stopped = _network()
    train(stopped, tiny, RECIPE, seed=1, stop=5, masks=masks, choices=Always(True))
    assert kept.keys() == stopped.state_dict().keys()
    assert all(torch.equal(kept[name], tensor) for name, tensor in stopped.state_dict().items())


class _Attention(nn.Module):
    """Uses the weights of one layer without calling it, and calls another twice."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.twice, self.once = nn.Linear(256, 256), nn.Linear(256, 256), nn.Linear(256, 256)
        self.tied = nn.Linear(256, 256)
        self.other = nn.Linear(256, 256)
        self.other.weight = self.tied.weight

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.linear(x.flatten(1), self.read.weight)
        y: Tensor = self.other(self.tied(self.once(self.twice(self.twice(x)))))
        return y


def test_shared_layers_are_left_dense() -> None:
    model = _Attention()
    masks = _masks(model, 0.05)
    always = Always(True)
    assert choose_sparse_layers(model, masks, torch.randn(8, 1, 16, 16), always) == ("once",)
    assert len(always.questions) == 1
    assert choose_sparse_layers(model, _masks(model, 0.2), torch.randn(8, 1, 16, 16), always) == ()
    assert model.training
    layers = SparseLayers(model, masks, ["once"])
    assert "once.weight" not in layers.remaining_masks(masks)
    assert "twice.weight" in layers.remaining_masks(masks)
    layers.restore_dense()
    assert type(model.once) is nn.Linear


def test_answers_are_kept() -> None:
    remembered = InMemoryChoices()
    assert remembered.settle("one", lambda: True)
    assert remembered.settle("one", lambda: False)
    assert not remembered.settle("other", lambda: False)
    slow = torch.randn(600, 600)
    assert speedup(lambda: slow[:8] @ slow, lambda: slow @ slow, 1) > 2
