"""`check` says of a squeezed ticket what the run does: a layer can be empty, and how often that happens by chance."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickdsl.checks import check
from tickdsl.checks.squeezed_layers import Left, Narrowed, chance_to_lose_all, narrowed_units, narrowed_weights
from tickdsl.engine.dense_networks import DenseNetwork, dense_network
from tickdsl.graph.structure import Structure
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.pruning.elastic import BlockMap, ElasticError, block_map
from tickdsl.pruning.elastic_structure import carry_structure
from tickdsl.records.canonical import canonical_json


def lenet(width: float, depth: int = 2) -> DenseNetwork:
    return dense_network("lenet-300-100", canonical_json({"width": width, "depth": depth}), 4, (1, 4, 4))


def is_empty(ticket: Structure, source: DenseNetwork, target: DenseNetwork, mapping: BlockMap) -> bool:
    """Whether the run refuses to carry a ticket over."""
    try:
        carry_structure(ticket, source.graph, target.graph, mapping)
    except ElasticError as error:
        assert "none that the ticket keeps" in error.message
        return True
    return False


def keeping(network: DenseNetwork, pool: str, units: Any) -> Structure:
    """A ticket that keeps only these neurons of a channel group, or these entries of a weight."""
    dense = Structure.dense(network.graph)
    if pool in network.graph.weights:
        mask = np.zeros(network.graph.parameters[pool], bool)
        mask.flat[list(units)] = True
        return dense.with_masks({pool: mask})
    return dense.remove(pool, np.setdiff1d(np.arange(network.graph.group(pool).size), list(units)))


def narrowed(unit: str, source: DenseNetwork, target: DenseNetwork, mapping: BlockMap) -> list[Narrowed]:
    if unit == "weights":
        return narrowed_weights(target.graph, mapping)
    return narrowed_units(source.graph, mapping)


@pytest.mark.parametrize("unit", ["neurons", "weights"])
@pytest.mark.parametrize("drop", ["last", "alternate"])
@pytest.mark.parametrize("depth", [2, 3])
def test_the_chance_is_the_share_of_all_tickets_that_the_run_refuses(unit: str, drop: str, depth: int) -> None:
    """All tickets are enumerated that differ in a layer of 2 neurons with 6 inputs, of which 1 and 3 are left."""
    source, target = lenet(0.02, depth), lenet(0.01)
    mapping = block_map(source.graph, target.graph, {"drop": drop})
    layer = next(each for each in narrowed(unit, source, target, mapping) if each.layer == "fc3")
    total = 12 if unit == "weights" else 2
    for kept in range(1, total + 1):
        tickets = [keeping(source, layer.pool, units) for units in itertools.combinations(range(total), kept)]
        refused = sum(is_empty(ticket, source, target, mapping) for ticket in tickets)
        assert chance_to_lose_all(Left(total, kept), layer.carried) == pytest.approx(refused / len(tickets))


@given(
    st.sampled_from(["neurons", "weights"]), st.sampled_from(["last", "alternate"]), st.data(),
    st.sampled_from([(0.1, 0.05), (0.05, 0.03), (0.1, 0.09)]),
)  # fmt: skip
def test_a_layer_is_reported_if_and_only_if_some_ticket_leaves_it_empty(
    unit: str, drop: str, data: st.DataObject, widths: tuple[float, float]
) -> None:
    source, target = (lenet(width) for width in widths)
    mapping = block_map(source.graph, target.graph, {"drop": drop})
    layer = data.draw(st.sampled_from(narrowed(unit, source, target, mapping)))
    shape: Any = source.graph.parameters.get(layer.pool) or source.graph.group(layer.pool).size
    total = int(np.prod(shape))
    kept = data.draw(st.integers(1, total))
    carried = np.zeros(total, bool)
    for unit_number in range(total):
        alone = keeping(source, layer.pool, [unit_number])
        carried[unit_number] = not is_empty(alone, source, target, mapping)
    assert carried.sum() == layer.carried
    # The worst ticket keeps what is not carried over first.
    worst = keeping(source, layer.pool, np.argsort(carried, kind="stable")[:kept])
    assert is_empty(worst, source, target, mapping) is (chance_to_lose_all(Left(total, kept), layer.carried) > 0)


HEAD = (
    "model lenet-300-100 width=0.1\ndata synthetic size=8 channels=1 classes=4 train=192 test=64\n"
    "train 2ep lr=0.05 batch=32\n"
)


@pytest.mark.parametrize(
    ("pipeline", "said"),
    [
        ("prune neurons local 50% x 4; rewind lr\nsqueeze to lenet-300-100 width=0.05", "fc2 without a neuron"),
        ("prune neurons global 60% x 3; rewind lr\nsqueeze to lenet-300-100 width=0.05", "fc2 without a neuron"),
        ("prune weights to 99.8%; rewind lr\nsqueeze to lenet-300-100 width=0.05", "without a weight"),
        ("prune neurons 5; rewind lr\nprune neurons local 80%; rewind lr\nsqueeze to lenet-300-100 width=0.05", "fc2"),
        ("prune neurons local 40%; rewind lr\nsqueeze to lenet-300-100 width=0.05", ""),
        ("prune neurons local 50% x 4; rewind lr\nstretch to lenet-300-100 width=0.2", ""),
        ("prune neurons local 50% x 4; rewind lr\nsqueeze to lenet-300-100 depth=1", ""),
        ("prune weights 20% x 4; rewind lr\nsqueeze to lenet-300-100 width=0.05", ""),
    ],
)
def test_plans_that_can_leave_a_layer_empty_are_found(pipeline: str, said: str) -> None:
    found = [
        d.message for d in check(load_source(Source("test.plan", HEAD + pipeline))).diagnostics if d.code == "TD462"
    ]
    assert len(found) == bool(said)
    assert all(said in message for message in found)
