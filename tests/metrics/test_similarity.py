"""Distances, signs and masks of networks, against counting them weight by weight."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tickdsl.graph import trace
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import slice_state_dict
from tickdsl.metrics.similarity import between, dense_weights, from_origin
from tickdsl.training.models import create

SHAPE = (1, 8, 8)
MODULE = create("small-cnn", classes=10, shape=SHAPE, seed=1, options={"width": 0.5})
GRAPH = trace(MODULE, torch.zeros(2, *SHAPE))
DENSE = Structure.dense(GRAPH)
TOTAL = sum(int(np.prod(info.shape)) for info in GRAPH.weights.values())


def state(seed: int) -> dict[str, Tensor]:
    stream = torch.Generator().manual_seed(seed)
    return {n: torch.randn(t.shape, generator=stream) if t.dim() else t for n, t in MODULE.state_dict().items()}


def masked(seed: int, share: float) -> Structure:
    stream = np.random.default_rng(seed)
    return DENSE.with_masks({name: stream.random(info.shape) >= share for name, info in GRAPH.weights.items()})


def by_hand(structure: Structure, values: dict[str, Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """All weights of a masked network in a row, and which of them are left."""
    masks = [structure.masks.get(n, np.ones(i.shape, dtype=bool)).ravel() for n, i in GRAPH.weights.items()]
    rows = [values[name].double().numpy().ravel() for name in GRAPH.weights]
    return np.concatenate(rows) * np.concatenate(masks), np.concatenate(masks)


@settings(deadline=None)
@given(st.integers(1, 50), st.sampled_from([0.0, 0.5, 0.95]))
def test_masked_networks_are_compared_weight_by_weight(seed: int, share: float) -> None:
    first, second = masked(seed, share), masked(seed + 50, share)
    values, others, start = state(seed), state(seed + 50), state(seed + 100)
    a, kept_a = by_hand(first, values)
    b, kept_b = by_hand(second, others)
    origin, _ = by_hand(DENSE, start)
    network, other = dense_weights(GRAPH, first, values), dense_weights(GRAPH, second, others)
    initial = dense_weights(GRAPH, DENSE, start)[0]
    assert from_origin("distance", *network, initial) == {
        "distance": pytest.approx(np.linalg.norm((a - origin)[kept_a]) / np.linalg.norm(origin[kept_a]))
    }
    same = np.mean(np.sign(a[kept_a]) == np.sign(origin[kept_a]))
    assert from_origin("sign-agreement", *network, initial) == {"sign-agreement": pytest.approx(same)}
    assert from_origin("mask-overlap", *network, initial) == {}
    norm = (np.linalg.norm(a) + np.linalg.norm(b)) / 2
    assert between("distance", network, other) == {"distance.seeds": pytest.approx(np.linalg.norm(a - b) / norm)}
    both = kept_a & kept_b
    assert between("sign-agreement", network, other) == {
        "sign-agreement.seeds": pytest.approx(np.mean(np.sign(a[both]) == np.sign(b[both])))
    }
    overlap = between("mask-overlap", network, other)
    if share:
        assert overlap["mask-overlap"] == pytest.approx(both.sum() / (kept_a | kept_b).sum())
    else:
        assert overlap == {}


def test_the_overlap_by_chance_is_that_of_masks_drawn_at_random() -> None:
    drawn = [dense_weights(GRAPH, masked(seed, 0.6), state(1)) for seed in range(40)]
    found = [between("mask-overlap", a, b) for a, b in itertools.pairwise(drawn)]
    mean = np.mean([figures["mask-overlap"] for figures in found])
    assert np.mean([figures["mask-overlap.chance"] for figures in found]) == pytest.approx(mean, rel=0.01)
    assert mean == pytest.approx(0.16 / (0.8 - 0.16), rel=0.02)


def test_removed_channels_count_as_removed_weights() -> None:
    (group, *_) = (group for group in GRAPH.channels if group.reason is None)
    pruned = DENSE.remove(group.name, range(group.size // 2))
    values = state(3)
    weights, left = dense_weights(GRAPH, pruned, slice_state_dict(GRAPH, values, DENSE, pruned))
    for name in GRAPH.weights:
        assert torch.equal(weights[name][left[name]], values[name].double()[left[name]])
        assert not weights[name][~left[name]].any()
    producer = next(name for name in GRAPH.weights if name.startswith(group.name))
    assert not left[producer][: group.size // 2].any() and left[producer][group.size // 2 :].all()
    same = between("mask-overlap", (weights, left), (weights, left))
    assert same["mask-overlap"] == 1 and same["mask-overlap.chance"] < 1
