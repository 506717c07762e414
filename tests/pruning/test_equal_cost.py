"""Random structures that cost as much as a ticket, within one unit, drawn from all layers that it could lose."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cost_targets import one_unit_back, pruned
from test_select import SHAPES, args, network

from tickdsl.graph.indexing import remaining_weights
from tickdsl.graph.structure import Structure
from tickdsl.pruning.cost_targets import COUNTS
from tickdsl.pruning.equal_cost import equal_cost_structure


def drawn(name: str, ticket: Structure, scope: dict, match: str, seed: int = 0) -> Structure:
    _, graph = network(name)
    return equal_cost_structure(graph, ticket, torch.Generator().manual_seed(seed), scope, match)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["small-cnn", "resnet20", "vgg11", "lenet-300-100"]),
    st.sampled_from(["channels", "layers"]),
    st.sampled_from(["flops", "params"]),
    st.floats(0.1, 0.7),
    st.integers(0, 99),
)
def test_the_cost_is_that_of_the_ticket_within_one_unit(
    name: str, kind: str, match: str, share: float, seed: int
) -> None:
    unit = "neurons" if name == "lenet-300-100" else "filters"
    if kind == "layers":
        if unit == "neurons":
            return
        unit = "layers"
    _, graph = network(name)
    amount = {"count": 1} if unit == "layers" else {"share": share}
    ticket = pruned(name, args(unit, "global", "l1" if unit == "layers" else "l2", **amount))
    structure = drawn(name, ticket, {"unit": unit}, match, seed)
    count = COUNTS[match]
    assert count(graph, structure) <= count(graph, ticket)
    assert max(count(graph, other) for other in one_unit_back(graph, structure, unit)) > count(graph, ticket)


@pytest.mark.parametrize("name", SHAPES)
def test_masks_keep_as_many_weights_in_all(name: str) -> None:
    _, graph = network(name)
    ticket = pruned(name, args("weights", "local", "magnitude", share=0.7, protect=["conv1"]))
    structure = drawn(name, ticket, {"unit": "weights", "protect": ["conv1"]}, "params")
    ours, theirs = (remaining_weights(graph, s) for s in (structure, ticket))
    assert sum(kept for kept, _ in ours.values()) == sum(kept for kept, _ in theirs.values())
    assert ours != theirs  # not layer by layer
    assert all(kept == whole for path, (kept, whole) in ours.items() if path.startswith("conv1."))
    assert structure == drawn(name, ticket, {"unit": "weights", "protect": ["conv1"]}, "params")


def test_excluded_layers_and_multiples_are_kept() -> None:
    ticket = pruned("small-cnn", args("filters", "global", "l2", share=0.4, protect=["conv1"], multiple=2))
    for seed in range(5):
        structure = drawn("small-cnn", ticket, {"unit": "filters", "protect": ["conv1"], "multiple": 2}, "flops", seed)
        assert "conv1" not in structure.kept
        assert all(len(units) % 2 == 0 for units in structure.kept.values())


def test_other_seeds_draw_other_structures() -> None:
    ticket = pruned("small-cnn", args("filters", "global", "l2", share=0.4))
    structures = [drawn("small-cnn", ticket, {"unit": "filters"}, "flops", seed) for seed in range(5)]
    assert len(set(structures)) == 5
    widths = {tuple(len(units) for _, units in sorted(s.kept.items())) for s in structures}
    assert len(widths) > 2  # the layers' shares are drawn too
