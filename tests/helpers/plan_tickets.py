"""Tickets for plans to start from: untrained networks of the catalogue with a random structure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from tickdsl.engine.dense_networks import DenseNetwork, dense_network
from tickdsl.graph import Structure, compact
from tickdsl.pruning.random_structure import random_structure
from tickdsl.records.canonical import canonical_json
from tickdsl.tickets.network_source import NetworkSource
from tickdsl.tickets.preprocessing import Preprocessing
from tickdsl.tickets.ticket import Ticket
from tickdsl.tickets.ticket_file import write_ticket
from tickdsl.training.rng import generator

#: Images of `digits`.
SHAPE = (1, 8, 8)


def ticket_structure(dense: DenseNetwork, seed: int = 0, *, masks: bool = False, blocks: int = 0) -> Structure:
    """A structure without a quarter of the units of every group and `blocks` layers; masks: and half of the weights."""
    graph = dense.graph
    counts = Structure.dense(graph)
    for block in graph.layers[:blocks]:
        counts = counts.remove_block(block.name)
    for group in graph.channels:
        if group.reason is None and not blocks:
            counts = counts.remove(group.name, np.arange(group.size // 4))
    structure = random_structure(graph, counts, generator(seed, "ticket"))
    if not masks:
        return structure
    rng = np.random.default_rng(seed)
    return structure.with_masks({name: rng.random(graph.parameters[name]) < 0.5 for name in graph.weights})


def plan_ticket(
    name: str = "small-cnn",
    options: Mapping[str, Any] | None = None,
    *,
    classes: int = 10,
    shape: tuple[int, int, int] = SHAPE,
    code: str = "",
    seed: int = 0,
    masks: bool = False,
    blocks: int = 0,
) -> Ticket:
    """A ticket of an untrained network."""
    dense = dense_network(name, canonical_json(dict(options or {})), classes, shape)
    structure = ticket_structure(dense, seed, masks=masks, blocks=blocks)
    return Ticket(
        source=NetworkSource(name, dict(options or {}), classes, shape, code),
        structure=structure,
        weights=compact(dense.module, dense.graph, structure).state_dict(),
        preprocessing=Preprocessing(*shape, (0.3053,) * shape[0], (0.376,) * shape[0]),
        classes=tuple(map(str, range(classes))),
        metrics={"accuracy": 0.1},
    )


def written(path: Path, ticket: Ticket, **changes: Any) -> Path:
    """Write a ticket, with changes of its fields."""
    write_ticket(attrs.evolve(ticket, **changes), path)
    return path
