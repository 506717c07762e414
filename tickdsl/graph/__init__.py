"""The model graph: coupled channels, pruned structures, and compaction of a network.

Names are imported lazily, so that code that needs no torch does not load it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tickdsl.graph.costs import Cost, cost
    from tickdsl.graph.indexing import kept_indices, remaining_weights
    from tickdsl.graph.model import Block, ChannelGroup, ModelGraph, Slice, WeightInfo
    from tickdsl.graph.structure import Structure, StructureError
    from tickdsl.graph.surgery.compact import compact, compact_masks, slice_state_dict, zeroed_copy
    from tickdsl.graph.tracing.trace import TraceError, trace

_MODULES = {
    "Block": "model",
    "ChannelGroup": "model",
    "Cost": "costs",
    "ModelGraph": "model",
    "Slice": "model",
    "Structure": "structure",
    "StructureError": "structure",
    "TraceError": "tracing.example_inputs",
    "WeightInfo": "model",
    "compact": "surgery.compact",
    "compact_masks": "surgery.compact",
    "cost": "costs",
    "kept_indices": "indexing",
    "remaining_weights": "indexing",
    "zeroed_copy": "surgery.compact",
    "silence": "surgery.compact",
    "slice_state_dict": "surgery.compact",
    "trace": "tracing.trace",
}

__all__ = [
    "Block",
    "ChannelGroup",
    "Cost",
    "ModelGraph",
    "Slice",
    "Structure",
    "StructureError",
    "TraceError",
    "WeightInfo",
    "compact",
    "compact_masks",
    "cost",
    "kept_indices",
    "remaining_weights",
    "slice_state_dict",
    "trace",
    "zeroed_copy",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
