"""The reported sizes of layers match the compacted network."""

from __future__ import annotations

import pytest
from torch import nn

from tickdsl.engine.dense_networks import dense_network
from tickdsl.engine.layers import remaining_by_layer
from tickdsl.graph.indexing import remaining_weights
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact
from tickdsl.records.canonical import canonical_json


@pytest.mark.parametrize("name", ["small-cnn", "lenet-300-100", "resnet20"])
def test_outputs_that_are_left_are_those_of_the_small_network(name: str) -> None:
    found = dense_network(name, canonical_json({}), 10, (1, 28, 28))
    structure = Structure.dense(found.graph)
    assert remaining_by_layer(found.graph, structure) == {"outputs": {}, "weights": {}}
    for group in found.graph.channels:
        if group.reason is None:
            structure = structure.remove(group.name, range(group.size // 3))
    left = remaining_by_layer(found.graph, structure)
    small = dict(compact(found.module, found.graph, structure).named_modules())
    for path, outputs in left["outputs"].items():
        module = small[path]
        assert isinstance(module, nn.Conv2d | nn.Linear)
        assert outputs == module.weight.shape[0]
        assert left["weights"][path] == module.weight.numel()
    assert left["outputs"]


def test_a_layer_of_a_removed_block_keeps_nothing() -> None:
    found = dense_network("resnet20", canonical_json({}), 10, (3, 32, 32))
    block = found.graph.layers[0]
    structure = Structure.dense(found.graph).remove_block(block.name)
    left = remaining_by_layer(found.graph, structure)
    gone = {name for name, (kept, _) in remaining_weights(found.graph, structure).items() if not kept}
    assert left["outputs"] == dict.fromkeys((found.graph.weights[name].module for name in gone), 0)
    assert set(left["weights"].values()) == {0}
