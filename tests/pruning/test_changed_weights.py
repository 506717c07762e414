"""Signs and magnitudes of two networks put together, and noise of a stated norm."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tickdsl.graph import ModelGraph, trace
from tickdsl.graph.structure import Structure
from tickdsl.pruning.changed_weights import perturbed, with_magnitudes, with_signs
from tickdsl.training.models import create
from tickdsl.training.rng import generator

SHAPE = (1, 8, 8)


def network(seed: int) -> torch.nn.Module:
    return create("small-cnn", classes=10, shape=SHAPE, seed=seed, options={"width": 0.25})


GRAPH: ModelGraph = trace(network(1), torch.zeros(2, *SHAPE))


def state(seed: int, zeros: float = 0.0) -> dict[str, Tensor]:
    stream = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(tensor.shape, generator=stream) * (torch.rand(tensor.shape, generator=stream) >= zeros)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in network(1).state_dict().items()
    }


def structure(seed: int, share: float) -> Structure:
    stream = torch.Generator().manual_seed(seed)
    masks = {name: torch.rand(info.shape, generator=stream) >= share for name, info in GRAPH.weights.items()}
    return Structure.dense(GRAPH).with_masks({name: mask.numpy() for name, mask in masks.items()})


CASES = st.tuples(st.integers(1, 99), st.sampled_from([0.0, 0.5, 0.9]), st.sampled_from([0.0, 0.3]))


@settings(deadline=None)
@given(CASES)
def test_signs_and_magnitudes_come_from_one_network_each(case: tuple[int, float, float]) -> None:
    seed, share, zeros = case
    pruned = structure(seed, share)
    current, origin = state(seed), state(seed + 100, zeros)
    signs = with_signs(GRAPH, pruned, current, origin)
    magnitudes = with_magnitudes(GRAPH, pruned, origin, current)
    for name, tensor in current.items():
        if name not in GRAPH.weights:
            assert torch.equal(signs[name], tensor) and torch.equal(magnitudes[name], current[name])
            continue
        kept = torch.from_numpy(pruned.masks[name].copy()) if name in pruned.masks else torch.ones_like(tensor) > 0
        for changed in (signs[name], magnitudes[name]):
            assert not changed[~kept].any()
            assert torch.equal(changed[kept].abs(), tensor[kept].abs())
            given_sign = kept & (origin[name] != 0)
            assert torch.equal(changed[given_sign].sign(), origin[name][given_sign].sign() * (tensor[given_sign] != 0))
        own = kept & (origin[name] == 0)
        assert torch.equal(signs[name][own], tensor[own])


@settings(deadline=None)
@given(CASES, st.sampled_from([0.01, 0.05, 1.0, 3.0]))
def test_noise_has_the_stated_norm_in_every_layer(case: tuple[int, float, float], share: float) -> None:
    seed, pruned_share, _ = case
    pruned, current = structure(seed, pruned_share), state(seed)
    noisy = perturbed(GRAPH, pruned, current, share, generator(seed, "perturb", 0))
    again = perturbed(GRAPH, pruned, current, share, generator(seed, "perturb", 0))
    other = perturbed(GRAPH, pruned, current, share, generator(seed, "perturb", 1))
    for name, tensor in current.items():
        assert torch.equal(noisy[name], again[name])
        if name not in GRAPH.weights:
            assert torch.equal(noisy[name], tensor)
            continue
        kept = torch.from_numpy(pruned.masks[name].copy()) if name in pruned.masks else torch.ones_like(tensor) > 0
        change = (noisy[name] - tensor)[kept]
        assert float(change.norm() / tensor[kept].norm()) == pytest.approx(share, rel=1e-4)
        assert not noisy[name][~kept].any()
        assert not torch.equal(noisy[name], other[name])


def test_shared_weights_stay_shared() -> None:
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Linear(6, 6, bias=False), torch.nn.Linear(6, 6, bias=False)
            self.second.weight = self.first.weight

        def forward(self, inputs: Tensor) -> Tensor:
            return self.second(torch.relu(self.first(inputs)))

    module = Tied()
    graph = trace(module, torch.zeros(2, 6))
    noisy = perturbed(graph, Structure.dense(graph), module.state_dict(), 0.1, generator(1, "perturb"))
    assert torch.equal(noisy["first.weight"], noisy["second.weight"])
    assert not torch.equal(noisy["first.weight"], module.first.weight)
