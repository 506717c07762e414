"""Targets in latency: predictions from a table of made-up measurements, and prunes to a share of them."""

from __future__ import annotations

import functools
from collections.abc import Callable

import attrs
import numpy as np
import pytest
import torch
from criteria_helpers import make_subject
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tickdsl.engine.machine.layer_latencies import OneValue, latency_model, time_on
from tickdsl.errors import TickdslError
from tickdsl.graph import ModelGraph, Structure, compact, trace
from tickdsl.pruning.latency_model import LatencyModel, LayerCurve, ladder
from tickdsl.pruning.random_structure import random_structure
from tickdsl.pruning.ranked_order import removal_order
from tickdsl.pruning.rounds import prune
from tickdsl.training import models
from tickdsl.training.measured_choices import InMemoryChoices

CPU = torch.device("cpu")
NETWORKS = {
    "small-cnn": ({}, (1, 8, 8)),
    "resnet20": ({"width": 0.25}, (1, 8, 8)),
    "vit": ({"dim": 16, "layers": 2}, (1, 8, 8)),
}


@functools.cache
def traced(name: str) -> tuple[nn.Module, ModelGraph]:
    options, shape = NETWORKS[name]
    module = models.create(name, classes=5, shape=shape, seed=0, options=options)
    return module, trace(module, torch.zeros(2, *shape))


def layer_seconds(module: nn.Module) -> float | None:
    """A made-up time of a layer, linear in each of its widths; None for what is no measured layer."""
    if isinstance(module, nn.Linear):
        return 1e-6 * (2 + 0.1 * module.in_features + 0.01 * module.in_features * module.out_features)
    if isinstance(module, nn.Conv2d):
        return 1e-6 * (5 + 0.2 * module.out_channels + 0.03 * module.in_channels * module.out_channels)
    return None


REST, OVERHEAD = 3e-4, 1e-6


class Timer:
    """Times layers by the formula, and the network as the sum of its layers and a rest; counts its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __call__(self, module: nn.Module, inputs: Tensor) -> float:
        self.calls.append(type(module).__name__)
        if isinstance(module, OneValue):
            return 2 * OVERHEAD
        own = layer_seconds(module)
        if own is not None:
            assert module(inputs).shape[0] == inputs.shape[0]
            return own
        return REST + sum(layer_seconds(layer) or 0.0 for layer in module.modules())


@functools.cache
def model_of(name: str) -> LatencyModel:
    module, graph = traced(name)
    example = torch.zeros(1, *NETWORKS[name][1])
    return latency_model(module, graph, example, InMemoryChoices(), CPU, Timer())


def other_seconds(graph: ModelGraph, structure: Structure, model: LatencyModel) -> float:
    """What the operators outside the measured layers take."""
    return attrs.evolve(model, layers=()).seconds(graph, structure)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_dense_network_takes_what_was_measured(name: str) -> None:
    module, graph = traced(name)
    expected = REST + sum(layer_seconds(layer) or 0.0 for layer in module.modules())
    assert model_of(name).seconds(graph, Structure.dense(graph)) == pytest.approx(expected)
    assert other_seconds(graph, Structure.dense(graph), model_of(name)) == pytest.approx(REST)
    assert model_of(name).overhead == OVERHEAD and model_of(name).rest > 0


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(NETWORKS)), st.integers(0, 1000), st.floats(0.1, 0.8))
def test_what_is_left_takes_the_sum_of_its_layers(name: str, seed: int, share: float) -> None:
    """The formula is linear in each width, so interpolation is exact at every width."""
    module, graph = traced(name)
    generator = torch.Generator().manual_seed(seed)
    units = [g for g in graph.channels if g.reason is None and g.size > 1]
    structure = Structure.dense(graph)
    for group in units:
        gone = min(group.size - 1, int(share * group.size))
        structure = structure.remove(group.name, range(group.size - gone, group.size)) if gone else structure
    structure = random_structure(graph, structure, generator)
    small = compact(module, graph, structure)
    layers = sum(layer_seconds(layer) or 0.0 for layer in small.modules())
    model = model_of(name)
    others = other_seconds(graph, structure, model)
    assert REST - model.rest < others < REST, "the overhead of operators stays"
    assert model.seconds(graph, structure) == pytest.approx(layers + others)


@pytest.mark.parametrize("name", ["resnet20", "vit"])
def test_removed_layers_take_no_time(name: str) -> None:
    module, graph = traced(name)
    model, before = model_of(name), Structure.dense(graph)
    for block in graph.layers[:2]:
        after = before.remove_block(block.name)
        gone = sum(layer_seconds(module.get_submodule(path)) or 0.0 for path in block.members if path in model.modules)
        assert gone > 0
        saved = model.seconds(graph, before) - model.seconds(graph, after)
        others = other_seconds(graph, before, model) - other_seconds(graph, after, model)
        assert others > 0 and saved == pytest.approx(gone + others)
        before = after


def test_each_distinct_shape_is_measured_once_and_kept() -> None:
    module, graph = traced("resnet20")
    choices, timer = InMemoryChoices(), Timer()
    example = torch.zeros(1, 1, 8, 8)
    first = latency_model(module, graph, example, choices, CPU, timer)
    shapes = {
        (layer.weight.shape, layer.stride) if isinstance(layer, nn.Conv2d) else layer.weight.shape
        for layer in module.modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    }
    assert len(first.layers) > len(shapes)
    assert len(timer.calls) <= 25 * len(shapes) + 2
    count = len(timer.calls)
    again = latency_model(module, graph, example, choices, CPU, timer)
    assert len(timer.calls) == count
    assert again.seconds(graph, Structure.dense(graph)) == first.seconds(graph, Structure.dense(graph))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_curves_never_fall_with_a_width(data: st.DataObject) -> None:
    inputs, outputs = (ladder(data.draw(st.integers(1, 60))) for _ in range(2))
    values = data.draw(
        st.lists(st.floats(1e-7, 1e-3), min_size=len(inputs) * len(outputs), max_size=len(inputs) * len(outputs))
    )
    curve = LayerCurve.of(inputs, outputs, values)
    grid = np.array([[curve.at(n, m) for m in range(1, outputs[-1] + 1)] for n in range(1, inputs[-1] + 1)])
    assert (np.diff(grid, axis=0) >= -1e-18).all() and (np.diff(grid, axis=1) >= -1e-18).all()
    assert min(values) <= grid.min() and grid.max() <= max(values) * (1 + 1e-12)
    measured = np.array(values).reshape(len(inputs), len(outputs))
    assert all(curve.at(n, m) >= measured[i, j] - 1e-18 for i, n in enumerate(inputs) for j, m in enumerate(outputs))


UNITS = [
    ("small-cnn", "filters"), ("resnet20", "filters"), ("resnet20", "layers"), ("vit", "heads"), ("vit", "neurons"),
    ("vit", "head-dims"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "unit"), UNITS)
@pytest.mark.parametrize("scope", ["global", "local"])
def test_a_prune_removes_the_fewest_units_that_reach_the_target(name: str, unit: str, scope: str) -> None:
    module, graph = traced(name)
    model = model_of(name)
    context = attrs.evolve(make_subject(module, graph), costs={"latency": model.nanoseconds})
    by = "l1" if unit == "layers" else "l2"
    args = {"unit": unit, "scope": scope, "by": by, "of": "latency"}
    dense = model.seconds(graph, Structure.dense(graph))
    for share in (0.05, 0.1):
        structure = prune(context, {**args, "to": share})
        order = removal_order(context, args)
        reached = (
            candidate
            for count in range(1, len(order.sequence) + 1)
            if model.seconds(graph, candidate := order.first(count)) <= (1 - share) * dense
        )
        assert structure == next(reached)


def test_a_target_that_is_out_of_reach_names_what_holds_it() -> None:
    module, graph = traced("vit")
    context = attrs.evolve(make_subject(module, graph), costs={"latency": model_of("vit").nanoseconds})
    args = {"unit": "heads", "scope": "global", "by": "l2", "of": "latency", "to": 0.95}
    with pytest.raises(TickdslError, match=r"95% of the latency cannot be removed: at most .*% of the FLOPs"):
        prune(context, args)


def test_without_measurements_it_says_so() -> None:
    module, graph = traced("small-cnn")
    args = {"unit": "filters", "scope": "global", "by": "l2", "of": "latency", "to": 0.3}
    with pytest.raises(TickdslError, match="known only where it is measured"):
        prune(make_subject(module, graph), args)


def test_real_layers_are_timed_and_wider_ones_take_longer() -> None:
    """Time of a thread, so a busy machine changes it little; a layer of 64 times the work takes longer."""
    timer: Callable[[nn.Module, Tensor], float] = time_on(CPU)
    narrow, wide = (timer(nn.Linear(width, width), torch.zeros(64, width)) for width in (64, 512))
    assert 0 < narrow < wide
