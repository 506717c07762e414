"""Build and trace networks of the catalogue; see `dense_networks` and `graph_cache` for cached ones."""

from __future__ import annotations

import functools
import json

import torch
from torch import nn

from tickdsl.graph.model import ModelGraph
from tickdsl.graph.tracing.trace import trace
from tickdsl.training.catalogue import architecture_options
from tickdsl.training.models import create

#: Graphs are traced with two images because batch norm in training mode needs more than one.
TRACE_BATCH_SIZE = 2


def trace_model(name: str, options: bytes, classes: int, shape: tuple[int, int, int]) -> ModelGraph:
    """Trace a network of the catalogue; `shape` is (C, H, W), `options` is canonical JSON."""
    return trace(build(name, options, classes, shape), (torch.zeros(TRACE_BATCH_SIZE, *shape),))


@functools.lru_cache(maxsize=16)
def build(name: str, options: bytes, classes: int, shape: tuple[int, int, int]) -> nn.Module:
    """Build a network of the catalogue, initialised with seed 0; cached, so callers must not change it."""
    return create(name, classes=classes, shape=shape, seed=0, options=architecture_options(json.loads(options)))
