"""Copies of networks, what `copy.deepcopy` gives in a fraction of its time; and changing these copies."""

from __future__ import annotations

import copy
import copyreg
from collections import OrderedDict
from typing import Any

import torch
from torch import nn

_ATOMIC = frozenset({bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size})


def copied(model: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """A deep copy of a network, in which `memo` says by identity what stands in the place of which object.

    Modules that say nothing of how they are copied are copied attribute by attribute; all else is left to `copy`.
    """
    result: nn.Module = _copied(model, memo)
    return result


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    kind: Any = type(value)
    if kind in _ATOMIC:
        return value
    if id(value) in memo:
        return memo[id(value)]
    if kind is dict or kind is OrderedDict:
        result = memo[id(value)] = kind()
        for key, item in value.items():
            result[_copied(key, memo)] = _copied(item, memo)
        return result
    if issubclass(kind, nn.Module) and _is_plain(kind) and isinstance(state := value.__getstate__(), dict):
        result = memo[id(value)] = kind.__new__(kind)
        result.__setstate__({name: _copied(item, memo) for name, item in state.items()})
        return result
    if kind is tuple and all(type(item) in _ATOMIC for item in value):
        return value
    return copy.deepcopy(value, memo)


#: What says how an object is copied.
_ORDERS = ("__deepcopy__", "__new__", "__reduce__", "__reduce_ex__", "__getnewargs__", "__getnewargs_ex__")
_NO_ORDERS = [getattr(object, name, None) for name in _ORDERS]


def _is_plain(kind: Any) -> bool:
    """Whether instances are copied by way of their state, as `copy` does for want of other orders."""
    return [getattr(kind, name, None) for name in _ORDERS] == _NO_ORDERS and kind not in copyreg.dispatch_table


def put(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module in the place of another, under every name that this has."""
    before = model.get_submodule(path)
    for name in [name for name, other in model.named_modules(remove_duplicate=False) if other is before]:
        model.set_submodule(name, module)
