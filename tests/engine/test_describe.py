"""Sizes and costs of a network are per image, counted as usual."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from tickdsl.engine.dense_networks import dense_network
from tickdsl.engine.steps.network_size import structure_metrics
from tickdsl.graph.structure import Structure
from tickdsl.records.canonical import canonical_json


def test_macs_are_per_image() -> None:
    found = dense_network("resnet20", canonical_json({"width": 0.5}), 10, (3, 16, 16))
    with FlopCounterMode(display=False) as counter:
        found.module.eval()(torch.zeros(1, 3, 16, 16))
    figures = structure_metrics(found.graph, Structure.dense(found.graph))
    assert figures["macs"] == counter.get_total_flops() // 2
    assert figures["params"] == sum(p.numel() for p in found.module.parameters())
    assert (figures["sparsity"], figures["filters"], figures["layers"]) == (0.0, 1.0, 1.0)
