"""Heads of attention and dims within heads as units of prunes: scores, selection, exact removal, and what is left."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import attrs
import numpy as np
import pytest
import torch
from criteria_helpers import make_subject
from graph_oracle import check_exact, make_weights_distinct
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from tickdsl.engine.steps.network_size import structure_metrics
from tickdsl.graph import ModelGraph, Structure, compact, trace
from tickdsl.pruning.cost_targets import COUNTS
from tickdsl.pruning.criteria import CRITERIA, Batch, ScoringContext, get_criterion
from tickdsl.pruning.equal_cost import equal_cost_structure
from tickdsl.pruning.random_structure import random_structure
from tickdsl.pruning.rounds import prune
from tickdsl.training import models

LENGTH, VOCABULARY, HEADS, DIM = 6, 11, 4, 16
WIDTH = DIM // HEADS
SHAPES = {"gpt": (LENGTH, VOCABULARY), "bert": (LENGTH, VOCABULARY), "vit": (1, 8, 8)}
NAMES = sorted(SHAPES)


def inputs_of(name: str, count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if name == "vit":
        return torch.randn(count, 1, 8, 8, generator=generator, dtype=torch.float64)
    return torch.randint(1, VOCABULARY, (count, LENGTH), generator=generator)


def loss_of(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs.flatten(0, -2), targets.flatten())


@functools.cache
def traced(name: str) -> tuple[nn.Module, ModelGraph]:
    """A network in double precision whose values are all distinct, and its graph."""
    options = {"layers": 2, "heads": HEADS, "dim": DIM, **({"patch": 4} if name == "vit" else {})}
    model = models.create(name, classes=VOCABULARY, shape=SHAPES[name], seed=0, options=options)
    model = make_weights_distinct(model.double()).eval()
    return model, trace(model, inputs_of(name, 2))


@functools.cache
def batches_of(name: str) -> tuple[Batch, ...]:
    """Three batches of different sizes."""
    inputs = inputs_of(name, 11)
    shape = inputs.shape if name == "gpt" else (len(inputs),)
    targets = torch.randint(0, VOCABULARY, shape, generator=torch.Generator().manual_seed(1))
    return tuple(zip(inputs.split(4), targets.split(4), strict=True))


def context_of(name: str, structure: Structure | None = None) -> ScoringContext:
    model, graph = traced(name)
    context = make_subject(model, graph, structure, batches_of(name), SHAPES[name])  # type: ignore[arg-type]
    return attrs.evolve(context, loss=loss_of)


def groups_of(graph: ModelGraph, kind: str) -> list[str]:
    return [group.name for group in graph.channels if group.kind == kind and group.reason is None]


@contextmanager
def gated(model: nn.Module, layer: int, unit: str) -> Iterator[Tensor]:
    """The network with a factor for each unit of a layer: of what the output projection reads, or of its queries."""
    attention = model.get_submodule(f"layers.{layer}.attend.attention")
    feed_forward = model.get_submodule(f"layers.{layer}.feed_forward")
    count = {"heads": HEADS, "qk-dims": WIDTH, "v-dims": WIDTH, "neurons": 4 * DIM}[unit]
    gates = torch.ones(count, dtype=torch.float64, requires_grad=True)

    def of_channels() -> Tensor:
        return gates.repeat_interleave(WIDTH) if unit == "heads" else gates.repeat(HEADS)

    if unit == "neurons":
        handle = feed_forward.proj.register_forward_pre_hook(lambda _, args: (args[0] * gates,))
    elif unit == "qk-dims":
        handle = attention.query.register_forward_hook(lambda _, args, output: output * of_channels())
    else:
        handle = attention.proj.register_forward_pre_hook(lambda _, args: (args[0] * of_channels(),))
    try:
        yield gates
    finally:
        handle.remove()


def gradients_of_gates(name: str, layer: int, unit: str) -> list[Tensor]:
    """The derivatives of the loss by the gates of a layer, for each batch."""
    model, found = traced(name)[0], []
    for inputs, targets in batches_of(name):
        with gated(model, layer, unit) as gates:
            (gradient,) = torch.autograd.grad(loss_of(model(inputs), targets), gates)
        found.append(gradient)
    return found


UNITS = {"heads": "attend.attention.query", "neurons": "feed_forward.expand"}
UNITS |= {"qk-dims": "attend.attention.query:qk-dims", "v-dims": "attend.attention.value:v-dims"}
FORMULAS: dict[str, Callable[[Tensor], Tensor]] = {
    "taylor": torch.square,
    "gate": torch.abs,
    "gate-signed": torch.clone,
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("by", FORMULAS)
def test_scores_follow_from_the_derivatives_by_gates(by: str, unit: str, name: str) -> None:
    graph = traced(name)[1]
    groups = [graph.group(f"layers.{layer}.{UNITS[unit]}") for layer in range(2)]
    for layer, scores in enumerate(get_criterion(by).channels(context_of(name), groups)):
        expected = torch.stack([FORMULAS[by](g) for g in gradients_of_gates(name, layer, unit)]).mean(0)
        if by != "taylor":
            expected = expected / expected.square().sum().sqrt()
            assert scores.norm().item() == pytest.approx(1)
        torch.testing.assert_close(scores, expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_signed_gate_tells_how_the_loss_changes_without_the_unit(name: str) -> None:
    """A gate is closed a little: the loss falls for units with positive derivatives, and rises for the others."""
    model, graph = traced(name)
    group = graph.group("layers.0.attend.attention.query")
    (scores,) = get_criterion("gate-signed").channels(context_of(name), [group])

    def mean_loss() -> float:
        return torch.stack([loss_of(model(inputs), targets) for inputs, targets in batches_of(name)]).mean().item()

    before = mean_loss()
    for head in range(HEADS):
        with gated(model, 0, "heads") as gates, torch.no_grad():
            gates[head] = 1 - 1e-4
            after = mean_loss()
        assert np.sign(before - after) == np.sign(scores[head].item())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("unit", ["heads", "head-dims"])
@pytest.mark.parametrize("by", [name for name, criterion in CRITERIA.items() if "heads" in criterion.units])
def test_every_criterion_prunes_and_what_is_left_is_exact(by: str, unit: str, name: str) -> None:
    if by == "grasp-halves" and name == "gpt":
        pytest.skip("tokens have no classes to halve")
    model, graph = traced(name)
    context = attrs.evolve(context_of(name), logits=name != "gpt")
    smaller = prune(context, {"unit": unit, "scope": "local", "by": by, "share": 0.5})
    expected = groups_of(graph, unit)
    assert sorted(smaller.kept) == sorted(expected)
    assert all(len(units) == graph.group(group).size // 2 for group, units in smaller.kept.items())
    check_exact(model, graph, smaller, inputs_of(name, 3))
    again = prune(
        attrs.evolve(context_of(name, smaller), logits=name != "gpt"),
        {"unit": unit, "scope": "global", "by": by, "count": 1},
    )
    assert sum(len(units) for units in again.kept.values()) == sum(map(len, smaller.kept.values())) - 1
    check_exact(model, graph, again, inputs_of(name, 3))


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(NAMES),
    st.lists(st.sampled_from(["heads", "head-dims", "neurons"]), min_size=1, max_size=6),
    st.sampled_from(["l2", "random"]),
)
def test_units_of_attention_are_pruned_in_any_order_and_number(name: str, units: Sequence[str], by: str) -> None:
    model, graph = traced(name)
    structure = Structure.dense(graph)
    for unit in units:
        args = {"unit": unit, "scope": "global", "by": by, "count": 1}
        structure = prune(context_of(name, structure), args)
    check_exact(model, graph, structure, inputs_of(name, 3))
    left = structure_metrics(graph, structure)
    for unit in ("heads", "head-dims"):
        groups = groups_of(graph, unit)
        kept = sum(len(structure.kept.get(group, range(graph.group(group).size))) for group in groups)
        assert left[unit] == pytest.approx(kept / sum(graph.group(group).size for group in groups))


@settings(max_examples=10, deadline=None)
@given(
    st.sampled_from(NAMES), st.sampled_from(["heads", "head-dims"]), st.sampled_from([2, 4]), st.floats(0.2, 0.8),
    st.sampled_from(["global", "local"]),
)  # fmt: skip
def test_multiples_count_heads_and_the_dims_of_a_head(
    name: str, unit: str, multiple: int, share: float, scope: str
) -> None:
    model, graph = traced(name)
    args = {"unit": unit, "scope": scope, "by": "l2", "to": share, "of": "params", "multiple": multiple}
    groups = groups_of(graph, unit)
    smallest = Structure.dense(graph)
    for group in groups:
        smallest = smallest.remove(group, range(multiple, graph.group(group).size))
    most = 1 - COUNTS["params"](graph, smallest) / COUNTS["params"](graph, Structure.dense(graph))
    if not most:
        return
    structure = prune(context_of(name), {**args, "to": share * most})
    assert all(len(units) % multiple == 0 for units in structure.kept.values()) and structure.kept
    check_exact(model, graph, structure, inputs_of(name, 3))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("unit", ["heads", "head-dims", "neurons"])
def test_controls_have_as_many_units_or_the_same_cost(unit: str, name: str) -> None:
    _, graph = traced(name)
    ticket = prune(context_of(name), {"unit": unit, "scope": "global", "by": "gate", "share": 0.4})
    generator = torch.Generator().manual_seed(3)
    drawn = random_structure(graph, ticket, generator)
    assert {group: len(units) for group, units in drawn.kept.items()} == {g: len(u) for g, u in ticket.kept.items()}
    cheap = equal_cost_structure(graph, ticket, generator, {"unit": unit}, "flops")
    assert COUNTS["flops"](graph, cheap) <= COUNTS["flops"](graph, ticket)


@pytest.mark.parametrize("name", NAMES)
def test_the_highest_go_first_if_asked(name: str) -> None:
    _, graph = traced(name)
    args = {"unit": "heads", "scope": "local", "by": "gate", "count": 2}
    lowest, highest = prune(context_of(name), args), prune(context_of(name), {**args, "order": "highest"})
    for group in groups_of(graph, "heads"):
        assert not set(lowest.kept[group].tolist()) & set(highest.kept[group].tolist())


def test_networks_without_attention_have_no_heads_to_count() -> None:
    model = models.create("small-cnn", classes=3, shape=(1, 8, 8), seed=0)
    graph = trace(model, torch.zeros(2, 1, 8, 8))
    assert not {"heads", "head-dims"} & structure_metrics(graph, Structure.dense(graph)).keys()


def test_the_pruned_network_has_fewer_heads() -> None:
    model, graph = traced("gpt")
    structure = prune(context_of("gpt"), {"unit": "heads", "scope": "local", "by": "l2", "count": 1})
    small = compact(model, graph, structure)
    assert small.get_submodule("layers.0.attend.attention").heads == HEADS - 1
