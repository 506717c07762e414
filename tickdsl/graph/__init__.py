"""The model graph: which channels belong together, what is left, and physical removal.

Names are loaded on first use, so that what needs no torch loads none.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tickdsl.graph.cost import Cost, cost
    from tickdsl.graph.model import Block, ChannelGroup, ModelGraph, Slice, WeightInfo
    from tickdsl.graph.structure import Structure, StructureError, kept_indices, remaining
    from tickdsl.graph.surgery import compact, compact_masks, silence, slice_state
    from tickdsl.graph.trace import TraceError, trace

_HOMES = {
    "Block": "model",
    "ChannelGroup": "model",
    "Cost": "cost",
    "ModelGraph": "model",
    "Slice": "model",
    "Structure": "structure",
    "StructureError": "structure",
    "TraceError": "trace",
    "WeightInfo": "model",
    "compact": "surgery",
    "compact_masks": "surgery",
    "cost": "cost",
    "kept_indices": "structure",
    "remaining": "structure",
    "silence": "surgery",
    "slice_state": "surgery",
    "trace": "trace",
}

__all__ = [
    "Block", "ChannelGroup", "Cost", "ModelGraph", "Slice", "Structure", "StructureError", "TraceError",
    "WeightInfo", "compact", "compact_masks", "cost", "kept_indices", "remaining", "silence", "slice_state", "trace",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


class _Package(types.ModuleType):
    """`trace` and `cost` are functions of this package although modules of these names define them."""

    def __setattr__(self, name: str, value: Any) -> None:
        # The import system binds a submodule in its package when it loads it: these two would hide the functions.
        if not (name in _HOMES and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
