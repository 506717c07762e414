"""Targets in FLOPs and parameters end within one unit, or are refused before anything runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_select import SHAPES, args, network

from tickdsl.engine.steps.network_size import structure_metrics
from tickdsl.errors import TickdslError
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import slice_state_dict
from tickdsl.pruning.cost_targets import COUNTS, cost_metrics
from tickdsl.pruning.criteria import ScoringContext
from tickdsl.pruning.rounds import prune
from tickdsl.pruning.scope import CHANNEL_KINDS

METRICS = {"flops": "macs", "params": "params"}


def pruned(name: str, step: dict, structure: Structure | None = None) -> Structure:
    module, graph = network(name)
    dense = Structure.dense(graph)
    state = slice_state_dict(graph, module.state_dict(), dense, structure or dense)
    return prune(ScoringContext(graph, structure or dense, state, torch.Generator().manual_seed(0)), step)


def one_unit_back(graph: ModelGraph, structure: Structure, unit: str) -> list[Structure]:
    """The structures with one more unit of a channel group, or one more layer."""
    dense = Structure.dense(graph)
    if unit == "layers":
        returned = [structure.removed_blocks - {name} for name in sorted(structure.removed_blocks)]
        return [_with_blocks(structure, blocks) for blocks in returned]
    found = []
    for group in graph.channels:
        if group.kind in CHANNEL_KINDS[unit] and group.name in structure.kept:
            gone = np.setdiff1d(np.arange(group.size), structure.kept[group.name])
            kept = {**structure.kept}
            rebuilt = dense
            for name, units in kept.items():
                size = graph.group(name).size
                back = gone[1:] if name == group.name else np.setdiff1d(np.arange(size), units)
                rebuilt = rebuilt.remove(name, back)
            found.append(rebuilt)
    return found


def _with_blocks(structure: Structure, blocks: frozenset[str]) -> Structure:
    return Structure(structure.extent, structure.kept, blocks, structure.masks)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["small-cnn", "resnet20", "vgg11", "lenet-300-100"]),
    st.sampled_from(["filters", "neurons", "layers"]),
    st.sampled_from(["global", "local"]),
    st.sampled_from(["flops", "params"]),
    st.floats(0.02, 0.97),
    st.sampled_from(["l2", "random"]),
    st.sampled_from(["lowest", "highest"]),
)
def test_a_target_is_exceeded_by_less_than_one_unit_or_refused(
    name: str, unit: str, scope: str, cost: str, share: float, by: str, order: str
) -> None:
    if (unit == "neurons") != (name == "lenet-300-100") or (unit, by) == ("layers", "random"):
        return
    _, graph = network(name)
    step = args(unit, scope, "l1" if unit == "layers" and by == "l2" else by, to=share, of=cost, order=order)
    whole = COUNTS[cost](graph, Structure.dense(graph))
    try:
        structure = pruned(name, step)
    except TickdslError as error:
        assert "cannot be removed: at most" in error.message
        return
    gone = whole - COUNTS[cost](graph, structure)
    assert gone >= share * whole - 1e-6
    before = [whole - COUNTS[cost](graph, other) for other in one_unit_back(graph, structure, unit)]
    assert min(before) < share * whole


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("scope", ["global", "local", "erk", "balanced"])
def test_weights_reach_a_share_of_the_parameters_exactly(name: str, scope: str) -> None:
    _, graph = network(name)
    dense = Structure.dense(graph)
    structure: Structure | None = None
    for share in (0.3, 0.6, 0.85):
        structure = pruned(name, args("weights", scope, "magnitude", to=share, of="params"), structure)
        whole, left = structure_metrics(graph, dense)["params"], structure_metrics(graph, structure)["params"]
        assert left == int(whole * (1 - share) + 1e-9)  # the fewest weights that reach the share


@pytest.mark.parametrize("name", SHAPES)
def test_costs_are_counted_like_the_metrics_of_a_level(name: str) -> None:
    _, graph = network(name)
    structure = pruned(name, args("weights", "global", "magnitude", share=0.4))
    if name != "lenet-300-100":
        structure = pruned(name, args("filters", "global", "l2", share=0.3), structure)
    metrics = structure_metrics(graph, structure)
    assert cost_metrics(graph, structure) == {"params": metrics["params"], "flops": metrics["macs"]}


def test_a_target_beyond_reach_names_what_holds_the_rest() -> None:
    with pytest.raises(TickdslError, match=r"at most .* can; `conv1` keeps .* \(excluded\)"):
        pruned("small-cnn", args("filters", "global", "l2", to=0.99, of="flops", protect=["conv1"]))
    with pytest.raises(TickdslError, match="99% of the parameters cannot be removed: at most"):
        pruned("small-cnn", args("weights", "global", "magnitude", to=0.99, of="params"))
    with pytest.raises(TickdslError, match="would remove nothing: 20% of the FLOPs are gone already"):
        half = pruned("small-cnn", args("filters", "global", "l2", to=0.5, of="flops"))
        pruned("small-cnn", args("filters", "global", "l2", to=0.2, of="flops"), half)


@pytest.mark.parametrize("name", ["small-cnn", "resnet20", "vgg11"])
@pytest.mark.parametrize("scope", ["global", "local"])
@pytest.mark.parametrize("amount", [{"share": 0.5}, {"to": 0.6}, {"to": 0.4, "of": "flops"}])
def test_the_widths_of_pruned_layers_are_multiples(name: str, scope: str, amount: dict) -> None:
    structure = pruned(name, args("filters", scope, "l2", multiple=4, **amount))
    assert structure.kept
    assert all(len(units) % 4 == 0 for units in structure.kept.values())


def test_the_best_weights_go_in_the_order_highest() -> None:
    module, _ = network("small-cnn")
    step = args("weights", "global", "magnitude", share=0.5)
    lowest, highest = pruned("small-cnn", step), pruned("small-cnn", {**step, "order": "highest"})
    weights = {name: module.state_dict()[name].abs().numpy() for name in lowest.masks}
    kept = [np.concatenate([weights[name][s.masks[name]] for name in weights]) for s in (lowest, highest)]
    assert kept[0].min() >= kept[1].max()  # no weight is the last one of its layer
    assert len(kept[0]) == len(kept[1])


def test_the_best_filters_and_layers_go_in_the_order_highest() -> None:
    step = args("filters", "local", "l2", share=0.5)
    lowest, highest = pruned("small-cnn", step), pruned("small-cnn", {**step, "order": "highest"})
    assert all(not np.intersect1d(units, highest.kept[name]).size for name, units in lowest.kept.items())
    step = args("layers", "global", "l1", count=1)
    assert pruned("resnet20", step).removed_blocks != pruned("resnet20", {**step, "order": "highest"}).removed_blocks
