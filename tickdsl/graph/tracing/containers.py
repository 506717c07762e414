"""Finds tensors in the containers that modules receive and return."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

_PLAIN = frozenset({int, float, bool, str, complex, bytes, type(None), torch.dtype, torch.device, torch.Size, range})

#: Objects that only the network itself reads again: what they hold is not an output.
_STATES = frozenset({"transformers.cache_utils.Cache"})


def tensors_in(values: Any) -> list[Tensor]:
    """All tensors in nested lists, tuples, dictionaries, dataclasses and other containers that torch sees through."""
    if isinstance(values, Tensor):
        return [values]
    kind = type(values)
    if kind is tuple or kind is list:
        return [tensor for value in values for tensor in tensors_in(value)]
    if kind is dict:
        return [tensor for value in values.values() for tensor in tensors_in(value)]
    if kind in _PLAIN:
        return []
    return [
        tensor
        for leaf in pytree.tree_leaves(values)
        for tensor in ([leaf] if isinstance(leaf, Tensor) else _tensors_in_fields(leaf))
    ]


def _tensors_in_fields(value: Any) -> list[Tensor]:
    if not dataclasses.is_dataclass(value) or isinstance(value, type) or _is_state(value):
        return []
    return [t for field in dataclasses.fields(value) for t in tensors_in(getattr(value, field.name, None))]


def tensors_in_object(values: Any) -> list[Tensor]:
    """`tensors_in`, and the tensors in the attributes of other objects."""
    found = {id(tensor): tensor for tensor in tensors_in(values)}
    seen: set[int] = set()

    def visit(value: Any) -> None:
        found.update((id(tensor), tensor) for tensor in tensors_in(value))
        for leaf in other_objects(value):
            if id(leaf) not in seen and not _is_state(leaf):
                seen.add(id(leaf))
                for item in _attributes(leaf):
                    visit(item)

    visit(values)
    return list(found.values())


def other_objects(values: Any) -> list[Any]:
    """The leaves that are neither tensors nor plain values: what they hold is unknown."""
    leaves = [leaf for leaf in pytree.tree_leaves(values) if not isinstance(leaf, Tensor) and type(leaf) not in _PLAIN]
    return [
        item
        for leaf in leaves
        for item in (
            [item for field in dataclasses.fields(leaf) for item in other_objects(getattr(leaf, field.name, None))]
            if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type)
            else [leaf]
        )
    ]


def iterators_in(values: Any) -> list[Any]:
    """The iterators and generators among `other_objects`: looking into them would use them up."""
    return [leaf for leaf in other_objects(values) if isinstance(leaf, Iterator)]


def _attributes(value: Any) -> Iterator[Any]:
    if isinstance(value, torch.nn.Module | type) or callable(value):
        return
    yield from vars(value).values() if hasattr(value, "__dict__") else ()
    for kind in type(value).__mro__:
        for name in getattr(kind, "__slots__", ()):
            yield getattr(value, name, None)


def _is_state(value: Any) -> bool:
    return any(f"{kind.__module__}.{kind.__qualname__}" in _STATES for kind in type(value).__mro__)
