"""The random structure of a control: as many units everywhere, and nothing outside the scope of the prunes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from criteria_helpers import catalogue_model, make_subject

from tickdsl.graph.indexing import kept_units, remaining_weights
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact, compact_masks
from tickdsl.pruning.random_structure import random_structure
from tickdsl.pruning.selection import prune

SHAPE = (3, 16, 16)

Prunes = list[dict[str, Any]]
PRUNES: dict[str, Prunes] = {
    "filters, then weights": [
        {"unit": "filters", "scope": "global", "by": "l2", "share": 0.3},
        {"unit": "weights", "scope": "global", "by": "magnitude", "share": 0.5},
    ],
    "layers, then weights": [
        {"unit": "layers", "scope": "global", "by": "random", "count": 3, "protect": ["layer3"]},
        {"unit": "weights", "scope": "global", "by": "magnitude", "share": 0.5},
    ],
    "weights, then layers": [
        {"unit": "weights", "scope": "global", "by": "magnitude", "share": 0.5},
        {"unit": "layers", "scope": "global", "by": "random", "count": 2, "within": ["layer1", "layer3"]},
    ],
    "layers, then filters": [
        {"unit": "layers", "scope": "global", "by": "random", "count": 4},
        {"unit": "filters", "scope": "global", "by": "l1", "share": 0.4},
    ],
    "layers twice, filters, weights": [
        {"unit": "layers", "scope": "global", "by": "random", "count": 1, "within": ["layer2"]},
        {"unit": "filters", "scope": "local", "by": "l1", "share": 0.25},
        {"unit": "weights", "scope": "local", "by": "magnitude", "share": 0.3},
        {"unit": "layers", "scope": "global", "by": "random", "count": 1, "within": ["layer1"]},
    ],
}


def _ticket(name: str) -> tuple[Any, ModelGraph, Structure]:
    module, graph = catalogue_model("resnet32", SHAPE, width=0.25)
    structure = Structure.dense(graph)
    for args in PRUNES[name]:
        structure = prune(make_subject(module, graph, structure, shape=SHAPE), args)
    return module, graph, structure


def _layer_scopes(name: str) -> Prunes:
    return [args for args in PRUNES[name] if args["unit"] == "layers"]


def _sorted_counts(graph: ModelGraph, structure: Structure) -> list[tuple[int, int]]:
    return sorted(remaining_weights(graph, structure).values())


@pytest.mark.parametrize("name", PRUNES)
def test_the_control_has_as_many_of_everything(name: str) -> None:
    module, graph, ticket = _ticket(name)
    drawn = {seed: random_structure(graph, ticket, _stream(seed), _layer_scopes(name)) for seed in range(4)}
    assert len({structure.digest() for structure in [ticket, *drawn.values()]}) == 5
    parameters = sum(p.numel() for p in compact(module, graph, ticket).parameters())
    for structure in drawn.values():
        assert sum(p.numel() for p in compact(module, graph, structure).parameters()) == parameters
        assert _sorted_counts(graph, structure) == _sorted_counts(graph, ticket)
        assert _masked(graph, structure) == _masked(graph, ticket)


@pytest.mark.parametrize("name", PRUNES)
def test_the_control_stays_within_the_scope_of_the_prunes(name: str) -> None:
    _, graph, ticket = _ticket(name)
    removed = [random_structure(graph, ticket, _stream(seed), _layer_scopes(name)).removed_blocks for seed in range(6)]
    scopes = _layer_scopes(name)
    for block in {name for names in removed for name in names}:
        assert any(
            block.startswith(tuple(scope.get("within", ["layer"])))
            and not block.startswith(tuple(scope.get("protect", ["none"])))
            for scope in scopes
        ), block
    stages = [sorted(name.partition(".")[0] for name in names) for names in [ticket.removed_blocks, *removed]]
    assert all(stage == stages[0] for stage in stages)
    if scopes:
        assert len(set(removed)) > 1


def test_filters_are_matched_layer_by_layer() -> None:
    _, graph, ticket = _ticket("filters, then weights")
    drawn = random_structure(graph, ticket, _stream(1))
    assert {n: int(k.sum()) for n, k in kept_units(graph, drawn).items()} == {
        n: int(k.sum()) for n, k in kept_units(graph, ticket).items()
    }
    assert remaining_weights(graph, drawn) == remaining_weights(graph, ticket)


def test_the_draw_is_the_same_for_the_same_stream() -> None:
    _, graph, ticket = _ticket("layers, then weights")
    first, second = (random_structure(graph, ticket, _stream(9), _layer_scopes("layers, then weights")) for _ in "ab")
    assert first == second


def _stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _masked(graph: ModelGraph, structure: Structure) -> int:
    return int(np.sum([int((~mask).sum()) for mask in compact_masks(graph, structure).values()]))
