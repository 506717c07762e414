"""Dense networks with their graphs, built once a process."""

from __future__ import annotations

import functools
import json

import attrs
import torch
from torch import nn

from tickdsl.graph.model import ModelGraph
from tickdsl.graph.tracing.trace import trace
from tickdsl.run.graphs import model_graph
from tickdsl.training.catalogue import shaping
from tickdsl.training.models import create

#: Graphs are traced with two pictures: batch norm in training mode needs more than one.
TRACED_PICTURES = 2


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
    module = _module(name, options, classes, shape)
    return Network(module, model_graph(name, options, classes, shape), shape, classes)


def traced(name: str, options: bytes, classes: int, shape: tuple[int, int, int]) -> ModelGraph:
    """The model graph of a catalogue network, traced anew."""
    return trace(_module(name, options, classes, shape), (torch.zeros(TRACED_PICTURES, *shape),))


@functools.lru_cache(maxsize=16)
def _module(name: str, options: bytes, classes: int, shape: tuple[int, int, int]) -> nn.Module:
    return create(name, classes=classes, shape=shape, seed=0, options=shaping(json.loads(options)))
