"""Further runs that a compact network must get right: other input sizes, and training mode."""

from __future__ import annotations

import weakref
from typing import Any

import attrs
import torch
from torch import nn

from tickdsl.graph.model import ModelGraph
from tickdsl.graph.tracing.example_inputs import build_inputs
from tickdsl.graph.tracing.meta import MetaRun, copy_to_meta, on_meta_device, set_training_mode
from tickdsl.graph.tracing.other_sizes import BATCHES, Inputs, with_batch, with_other_sizes
from tickdsl.graph.tracing.trace import trace_variant
from tickdsl.graph.tracing.train_mode import TrainingModeWatch


@attrs.frozen(eq=False)
class Variants:
    """The dense network for other runs than the traced one.

    `sizes` are two descriptions of inputs that differ in every size that the network lets one change. `graphs` are its
    graphs in these runs: for the second of `sizes`, and in training mode, as far as the network runs.
    """

    sizes: tuple[Inputs, Inputs]
    graphs: tuple[tuple[ModelGraph, bool], ...]


_cache: weakref.WeakKeyDictionary[ModelGraph, Variants] = weakref.WeakKeyDictionary()


def find_variants(model: nn.Module, graph: ModelGraph) -> Variants:
    """The variants of the dense network that `graph` was traced from; found once per graph."""
    if graph not in _cache:
        _cache[graph] = _find_variants(model, graph)
    return _cache[graph]


def _find_variants(model: nn.Module, graph: ModelGraph) -> Variants:
    dtype = model_dtype(model)
    meta_model = copy_to_meta(model)
    watch = TrainingModeWatch(meta_model)
    set_training_mode(meta_model, train=False)
    first = with_batch(graph.inputs, BATCHES[0])
    first = first if _runs(meta_model, first, dtype) else graph.inputs
    second = with_batch(first, BATCHES[1])
    second = second if _runs(meta_model, second, dtype) else first
    second = with_other_sizes(second, lambda inputs: _runs(meta_model, inputs, dtype))
    runs = [(second, False)] if second != graph.inputs else []
    runs += [(first, True)] if watch.reads_training else []
    graphs = []
    for inputs, train in runs:
        try:
            graphs.append((trace_variant(model, inputs, dtype, train), train))
        except Exception:  # the network's code may need targets in training, for example
            continue
    return Variants((first, second), tuple(graphs))


def _runs(meta_model: nn.Module, inputs: Any, dtype: torch.dtype | None) -> bool:
    with on_meta_device():
        args, kwargs = build_inputs(inputs, floating=dtype)
        try:
            with MetaRun():  # type: ignore[no-untyped-call]
                meta_model(*args, **kwargs)
        except Exception:  # the network's code may raise anything for a size that it does not accept
            return False
    return True


def model_dtype(model: nn.Module) -> torch.dtype | None:
    """The dtype of the network's first floating-point parameter; None if it has none."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
