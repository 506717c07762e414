"""Criteria on networks with attention, frozen parts, integer buffers and code under no_grad; ties; memory."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest
import torch
from criteria_helpers import make_subject, random_batches, trace_module
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from tickdsl.errors import TickdslError
from tickdsl.pruning.criteria import get_criterion, taylor
from tickdsl.pruning.criteria.backpropagation import ByName
from tickdsl.pruning.selection import lowest_of_pools, prune

SALIENCIES = ["snip", "grasp", "grasp-halves", "synflow", "taylor"]


class Head(nn.Module):
    """A convolution, whatever `middle` does to 4 channels, and a classifier."""

    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.first, self.middle, self.fc = nn.Conv2d(1, 4, 3, padding=1), middle, nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.fc(self.middle(F.relu(self.first(x))).mean((2, 3)))
        return scores


class Encoder(nn.Module):
    """torch's own encoder layer, whose attention takes the fastest implementation there is."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, x.shape[2:])  # type: ignore[no-any-return]


class Buffers(nn.Module):
    """Integer and boolean buffers, as those of relative positions and masks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.register_buffer("order", torch.arange(8).flip(0))
        self.register_buffer("seen", torch.arange(8) > 1)
        self.register_buffer("byte", torch.ones(8, dtype=torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x[..., self.order] * self.seen * self.byte)  # type: ignore[no-any-return]


def _frozen() -> nn.Module:
    return nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)).requires_grad_(False)


@pytest.mark.parametrize("by", SALIENCIES)
@pytest.mark.parametrize("middle", [Encoder, Buffers, _frozen])
def test_every_weight_has_a_score(middle: Any, by: str) -> None:
    torch.manual_seed(0)
    module = Head(middle())
    graph = trace_module(module)
    subject = make_subject(module, graph, batches=random_batches(20))
    scores = get_criterion(by).weights(subject, list(graph.weights))
    for name, score in zip(graph.weights, scores, strict=True):
        assert bool(torch.isfinite(score).all()), name
        assert bool(score.any()), name


def test_frozen_weights_are_scored_as_if_they_were_not() -> None:
    torch.manual_seed(0)
    module = Head(_frozen())
    graph = trace_module(module)
    batches = random_batches(20)
    frozen = get_criterion("snip").weights(make_subject(module, graph, batches=batches), list(graph.weights))
    free = get_criterion("snip").weights(
        make_subject(module.requires_grad_(True), graph, batches=batches), list(graph.weights)
    )
    torch.testing.assert_close(frozen, free)


class WithoutGradients(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            features: Tensor = self.conv(x)
        return features


@pytest.mark.parametrize("by", SALIENCIES)
def test_weights_that_no_gradient_reaches_are_named(by: str) -> None:
    module = Head(WithoutGradients())
    graph = trace_module(module)
    subject = make_subject(module, graph, batches=random_batches(20))
    with pytest.raises(TickdslError, match=f"`by {by}` cannot rank first, middle.conv: no gradient reaches them"):
        get_criterion(by).weights(subject, list(graph.weights))
    assert get_criterion(by).weights(subject, ["fc.weight"])[0].any()
    assert by == "taylor" or prune(
        subject, {"unit": "weights", "scope": "global", "by": by, "share": 0.5, "within": ["fc"]}
    )


class Single(nn.Module):
    """Code that insists on float32."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("nchw,cd->ndhw", x, torch.ones(4, 4, dtype=torch.float32))


def test_a_network_that_refuses_float64_says_so() -> None:
    module = Head(Single())
    graph = trace_module(module)
    with pytest.raises(TickdslError, match="runs the network in float64"):
        get_criterion("synflow").weights(make_subject(module, graph), list(graph.weights))


def test_taylor_keeps_the_products_of_one_batch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    module = Head(nn.Conv2d(4, 4, 3))
    graph = trace_module(module)
    alive: list[weakref.ref[Tensor]] = []
    most = 0

    def counting(*args: Any, **kwargs: Any) -> ByName:
        nonlocal most
        found = real(*args, **kwargs)
        alive.append(weakref.ref(found["first.weight"]))
        most = max(most, sum(reference() is not None for reference in alive))
        return found

    real = taylor.mean_gradients
    monkeypatch.setattr(taylor, "mean_gradients", counting)
    subject = make_subject(module, graph, batches=random_batches(24, batches=12))
    get_criterion("taylor").weights(subject, list(graph.weights))
    get_criterion("taylor").channels(subject, [graph.group("first")])
    assert len(alive) == 24 and most <= 2


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=12), min_size=1, max_size=5), st.data())
def test_ties_are_shared_by_all_layers(values: list[list[int]], data: st.DataObject) -> None:
    scores = [torch.tensor(pool, dtype=torch.float64) for pool in values]
    count = data.draw(st.integers(0, sum(map(len, values))))
    taken = lowest_of_pools(scores, count)
    assert sum(map(len, taken)) == count
    flat = np.sort(np.concatenate([score.numpy() for score in scores]))
    removed = [score.numpy()[positions] for score, positions in zip(scores, taken, strict=True)]
    assert np.array_equal(np.sort(np.concatenate(removed)), flat[:count])
    if not 0 < count < len(flat):
        return
    threshold = flat[count - 1]
    tied = [int((score == threshold).sum()) for score in scores]
    gone = [int((values == threshold).sum()) for values in removed]
    share = sum(gone) / sum(tied)
    assert all(abs(lost - share * ties) <= 1 for lost, ties in zip(gone, tied, strict=True))
    for score, positions in zip(scores, taken, strict=True):  # within a layer, the first ones go
        ties = np.flatnonzero(score.numpy() == threshold)
        assert set(ties[: len(set(ties) & set(positions))]) <= set(positions)
