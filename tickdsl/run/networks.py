"""Dense networks with their graphs, built once a process."""

from __future__ import annotations

import functools
import json

import attrs
import torch
from torch import nn

from tickdsl.graph.model import ModelGraph
from tickdsl.graph.trace import trace
from tickdsl.training.models import create


@attrs.frozen
class Network:
    """A dense network as a mould: its modules and shapes count, its weights do not."""

    module: nn.Module
    graph: ModelGraph
    shape: tuple[int, int, int]
    classes: int


@functools.lru_cache(maxsize=16)
def network(name: str, options: bytes, classes: int, shape: tuple[int, int, int]) -> Network:
    """A catalogue network for `classes` and pictures of `shape` (C, H, W); `options` is canonical JSON."""
    module = create(name, classes=classes, shape=shape, seed=0, options=json.loads(options))
    # Two pictures: batch norm in training mode needs more than one.
    graph = trace(module, (torch.zeros(2, *shape),))
    return Network(module, graph, shape, classes)
