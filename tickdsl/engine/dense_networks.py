"""Dense networks with their graphs, built once per process."""

from __future__ import annotations

import functools

import attrs
from torch import nn

from tickdsl.engine.building import build
from tickdsl.engine.graph_cache import model_graph
from tickdsl.graph.model import ModelGraph
from tickdsl.training.catalogue.input_shapes import InputShape


@attrs.frozen
class DenseNetwork:
    """A dense network as a template: its modules and shapes matter, its weights do not; `shape` is that of an input."""

    module: nn.Module
    graph: ModelGraph
    shape: InputShape
    classes: int


@functools.lru_cache(maxsize=16)
def dense_network(name: str, options: bytes, classes: int, shape: InputShape) -> DenseNetwork:
    """A network of the catalogue for `classes` and inputs of `shape`; `options` is canonical JSON.

    Raises TickdslError if the network does not exist or cannot process such images.
    """
    module = build(name, options, classes, shape)
    return DenseNetwork(module, model_graph(name, options, classes, shape), shape, classes)
