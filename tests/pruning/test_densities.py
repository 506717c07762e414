"""Densities of layers: the numbers of the papers' formulas, exact totals, and the same densities round by round."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_select import SHAPES, args, network, rounds

from tickdsl.graph.indexing import remaining_weights
from tickdsl.graph.structure import Structure
from tickdsl.graph.tracing.trace import trace
from tickdsl.pruning.amounts import round_half_up
from tickdsl.pruning.criteria import ScoringContext
from tickdsl.pruning.densities import Layer, kept_weights, proportions
from tickdsl.pruning.rounds import prune
from tickdsl.training.models import create


def densities_of_evci(shapes: dict[str, tuple[int, ...]], density: float) -> dict[str, float]:
    """The densities by the loop that the paper describes: the densest layers become dense, until none exceeds 1."""
    sizes = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    raw = {name: sum(shape) / sizes[name] for name, shape in shapes.items()}
    dense: set[str] = set()
    while True:
        left = density * sum(sizes.values()) - sum(sizes[name] for name in dense)
        scale = left / sum(raw[name] * sizes[name] for name in shapes if name not in dense)
        exceeding = {name: raw[name] for name in shapes if name not in dense and scale * raw[name] > 1}
        if not exceeding:
            return {name: 1.0 if name in dense else scale * raw[name] for name in shapes}
        dense |= {name for name, value in exceeding.items() if value == max(exceeding.values())}


def layers_of(scope: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, Layer]:
    sizes = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    weights = proportions(scope, shapes, sizes)
    return {name: Layer(weights[name], 1, sizes[name]) for name in shapes}


def test_the_counts_of_lenet_by_hand() -> None:
    """784-300-100-10 at 90%: d1 + d2 is 1084, 400 and 110, so of 26,620 weights the layers keep 18,103, 6,680, 1,000.

    The last would keep 26,620 * 110 / 1594 = 1,837 of its 1,000, so it stays dense, and the others share 25,620.
    """
    shapes = {"fc1": (300, 784), "fc2": (100, 300), "fc3": (10, 100)}
    kept = kept_weights(layers_of("erk", shapes), 26_620)
    assert kept == {"fc1": round(25_620 * 1084 / 1484), "fc2": round(25_620 * 400 / 1484), "fc3": 1_000}
    assert kept == {"fc1": 18_714, "fc2": 6_906, "fc3": 1_000}
    assert kept_weights(layers_of("balanced", shapes), 26_620) == {"fc1": 12_810, "fc2": 12_810, "fc3": 1_000}
    assert kept_weights(layers_of("uniform", shapes), 26_620) == {"fc1": 23_520, "fc2": 3_000, "fc3": 100}


SHAPE = st.lists(st.integers(1, 64), min_size=2, max_size=4).map(tuple)


@given(st.lists(SHAPE, min_size=1, max_size=12), st.floats(0.01, 1.0))
def test_the_densities_are_those_of_evci(shapes: list[tuple[int, ...]], density: float) -> None:
    named = {f"layer{index}": shape for index, shape in enumerate(shapes)}
    sizes = {name: int(np.prod(shape)) for name, shape in named.items()}
    total = max(len(named), round(density * sum(sizes.values())))
    free = {name: Layer(layer.weight, 0, layer.most) for name, layer in layers_of("erk", named).items()}
    kept = kept_weights(free, total)
    expected = densities_of_evci(named, total / sum(sizes.values()))
    assert sum(kept.values()) == total
    assert all(abs(kept[name] - expected[name] * sizes[name]) < 1 + 1e-6 for name in named)


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 3), st.integers(3, 400)), min_size=1), st.integers(0, 9999)
)
def test_layers_keep_what_their_limits_allow(limits: list[tuple[int, int, int]], total: int) -> None:
    layers = {str(index): Layer(*of_layer) for index, of_layer in enumerate(limits)}
    kept = kept_weights(layers, total)
    least, most = sum(least for _, least, _ in limits), sum(most for _, _, most in limits)
    assert sum(kept.values()) == max(least, min(total, most))
    assert all(layer.least <= kept[name] <= layer.most for name, layer in layers.items())
    free = [name for name, layer in layers.items() if layer.least < kept[name] < layer.most]
    scales = [(Fraction(kept[n] - 1, layers[n].weight), Fraction(kept[n] + 1, layers[n].weight)) for n in free]
    assert not scales or max(low for low, _ in scales) < min(high for _, high in scales)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("scope", ["erk", "balanced"])
def test_rounds_to_a_target_have_the_densities_of_their_totals(name: str, scope: str) -> None:
    _, graph = network(name)
    dense = Structure.dense(graph)
    sizes = {n: pair[1] for n, pair in remaining_weights(graph, dense).items()}
    shapes = {n: graph.weights[n].shape for n in sizes}
    steps = [args("weights", scope, "random", to=to, round=index) for index, to in enumerate((0.4, 0.8, 0.95))]
    for structure, step in zip(rounds(name, *steps)[1:], steps, strict=True):
        left = {n: pair[0] for n, pair in remaining_weights(graph, structure).items()}
        removed = round_half_up(step["to"] * sum(sizes.values()))
        assert left == kept_weights(layers_of(scope, shapes), sum(sizes.values()) - removed)


def test_the_excluded_layers_of_a_network_stay_dense() -> None:
    module = create("lenet-300-100", classes=10, shape=(1, 28, 28), seed=1)
    graph = trace(module, (torch.zeros(2, 1, 28, 28),))
    step = args("weights", "erk", "magnitude", to=0.9, protect=["fc3"])
    structure = prune(ScoringContext(graph, Structure.dense(graph), module.state_dict()), step)
    left = {name: pair[0] for name, pair in remaining_weights(graph, structure).items()}
    assert left == {"fc1.weight": 18_714, "fc2.weight": 6_906, "fc3.weight": 1_000}
