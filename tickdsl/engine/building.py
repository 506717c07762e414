"""Build and trace networks of the catalogue; see `dense_networks` and `graph_cache` for cached ones."""

from __future__ import annotations

import functools
import json

from torch import nn

from tickdsl.errors import NetworkTooLargeError
from tickdsl.graph.costs import TRACE_BATCH_SIZE
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.tracing.trace import trace
from tickdsl.training.catalogue import architecture_options
from tickdsl.training.catalogue.input_shapes import InputShape
from tickdsl.training.example_inputs import example_inputs, trace_arguments
from tickdsl.training.models import create, create_on_meta

#: More parameters than any network that is pruned here: 37 GiB of weights.
MAX_PARAMETERS = 10_000_000_000


def trace_model(name: str, options: bytes, classes: int, shape: InputShape) -> ModelGraph:
    """Trace a network of the catalogue; `shape` is that of its inputs, `options` is canonical JSON.

    Nothing of the network's size is allocated, except for a plug-in, which is built. Raises NetworkTooLargeError for
    more than MAX_PARAMETERS parameters, before the network is traced.
    """
    architecture = architecture_options(json.loads(options))
    model = create_on_meta(name, classes=classes, shape=shape, options=architecture)
    parameters = sum(parameter.numel() for parameter in model.parameters()) if model is not None else 0
    if parameters > MAX_PARAMETERS:
        raise NetworkTooLargeError(
            f"{name} has {parameters:,} parameters here; a network may have {MAX_PARAMETERS:,}",
            "use a smaller `width=`, or smaller images",
        )
    inputs = example_inputs(TRACE_BATCH_SIZE, shape, "meta")
    return trace(build(name, options, classes, shape) if model is None else model, trace_arguments(inputs))


@functools.lru_cache(maxsize=16)
def build(name: str, options: bytes, classes: int, shape: InputShape) -> nn.Module:
    """Build a network of the catalogue, initialised with seed 0; cached, so callers must not change it."""
    return create(name, classes=classes, shape=shape, seed=0, options=architecture_options(json.loads(options)))
