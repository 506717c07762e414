"""Deep copies of networks, faster than `copy.deepcopy`, and module replacement in them."""

from __future__ import annotations

import copy
import copyreg
from collections import OrderedDict
from typing import Any

import torch
from torch import nn

_ATOMIC = frozenset({bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size})


def deepcopy_model(model: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """Deep-copy a network; `memo` maps the ids of objects to what replaces them in the copy.

    Modules without copy hooks of their own are copied attribute by attribute; everything else is left to `copy`.
    """
    result: nn.Module = _deepcopy(model, memo)
    return result


def _deepcopy(value: Any, memo: dict[int, Any]) -> Any:
    value_class: Any = type(value)
    if value_class in _ATOMIC:
        return value
    if id(value) in memo:
        return memo[id(value)]
    if value_class is dict or value_class is OrderedDict:
        result = memo[id(value)] = value_class()
        for key, item in value.items():
            result[_deepcopy(key, memo)] = _deepcopy(item, memo)
        return result
    if (
        issubclass(value_class, nn.Module)
        and _uses_default_copy(value_class)
        and isinstance(state := value.__getstate__(), dict)
    ):
        result = memo[id(value)] = value_class.__new__(value_class)
        result.__setstate__({name: _deepcopy(item, memo) for name, item in state.items()})
        return result
    if value_class is tuple and all(type(item) in _ATOMIC for item in value):
        return value
    return copy.deepcopy(value, memo)


#: The methods that customise how an object is copied.
_COPY_HOOKS = ("__deepcopy__", "__new__", "__reduce__", "__reduce_ex__", "__getnewargs__", "__getnewargs_ex__")
_DEFAULT_COPY_HOOKS = [getattr(object, name, None) for name in _COPY_HOOKS]


def _uses_default_copy(value_class: Any) -> bool:
    """Whether `copy` copies instances by their state, because the class does not customise it."""
    return [
        getattr(value_class, name, None) for name in _COPY_HOOKS
    ] == _DEFAULT_COPY_HOOKS and value_class not in copyreg.dispatch_table


def replace_module(model: nn.Module, path: str, module: nn.Module) -> None:
    """Replace a module under all names that it has in the model."""
    replaced = model.get_submodule(path)
    for name in [name for name, candidate in model.named_modules(remove_duplicate=False) if candidate is replaced]:
        model.set_submodule(name, module)
