"""Real values on the meta device, of tensors that depend on neither inputs nor parameters.

Code may read them: to choose a kind of mask, for example. Each such meta tensor has a twin on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

#: Larger tensors have no twin.
_LARGEST = 1 << 22
_FROM_DATA = frozenset({torch.tensor, torch.as_tensor, torch.from_numpy})
_DATA_DEPENDENT = (torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output)


class KnownValues:
    """The twins of the meta tensors of one run. A twin that an unknown value was written to is forgotten."""

    def __init__(self) -> None:
        self._twins: dict[int, tuple[Tensor, Tensor]] = {}
        self._overwritten: set[int] = set()

    def add(self, tensor: Tensor, value: Tensor) -> None:
        """Set the value of a meta tensor."""
        self._twins[id(tensor)] = tensor, value

    def get(self, tensor: Tensor) -> Tensor | None:
        """The value of a tensor on any device, if it is known."""
        if not tensor.is_meta:
            return tensor
        twin = self._twins.get(id(tensor), (None, None))[1]
        return None if twin is None or _storage(twin) in self._overwritten else twin

    def run(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], run_on_meta: Callable[..., Any]) -> Any:
        """Run an operator on the meta device, and on the twins if all its operands have one.

        `run_on_meta` gets its arguments: known masks that select positions are replaced by these positions.
        """
        if func is torch.ops.aten.index.Tensor:
            args = args[0], self._without_masks(args[1])
        operands = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        values = {id(operand): self.get(operand) for operand in operands}
        is_known = all(value is not None for value in values.values())
        if not is_known or torch.Tag.nondeterministic_seeded in func.tags or _is_large(func, args, kwargs):
            result = run_on_meta(*args)
            self._forget_overwritten(func, args, kwargs)
            return result

        def to_twin(leaf: Any) -> Any:
            if isinstance(leaf, Tensor):
                return values[id(leaf)]
            return torch.device("cpu") if isinstance(leaf, torch.device) else leaf

        if any(tag in func.tags for tag in _DATA_DEPENDENT):
            known = func(*pytree.tree_map(to_twin, args), **pytree.tree_map(to_twin, dict(kwargs)))
            return pytree.tree_map(lambda leaf: self._on_meta(leaf) if isinstance(leaf, Tensor) else leaf, known)
        result = run_on_meta(*args)
        known = func(*pytree.tree_map(to_twin, args), **pytree.tree_map(to_twin, dict(kwargs)))
        for tensor, value in zip(pytree.tree_leaves(result), pytree.tree_leaves(known), strict=True):
            if isinstance(tensor, Tensor) and tensor.is_meta:
                self.add(tensor, value)
        return result

    def _without_masks(self, indices: Any) -> list[Any]:
        result: list[Any] = []
        for index in indices:
            value = self.get(index) if isinstance(index, Tensor) and index.dtype == torch.bool else None
            result += [index] if value is None else [self._on_meta(i) for i in value.nonzero(as_tuple=True)]
        return result

    def _on_meta(self, value: Tensor) -> Tensor:
        tensor = torch.empty_like(value, device="meta")
        self.add(tensor, value)
        return tensor

    def _forget_overwritten(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if func._schema.is_mutable:
            for argument, value in zip(func._schema.arguments, args, strict=False):
                if argument.alias_info is not None and argument.alias_info.is_write:
                    self._forget(value)
            self._forget(kwargs.get("out"))

    def _forget(self, values: Any) -> None:
        for leaf in pytree.tree_leaves(values):
            if isinstance(leaf, Tensor) and (twin := self.get(leaf)) is not None and leaf.is_meta:
                self._overwritten.add(_storage(twin))


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _is_large(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether an operator creates or reads more than a twin may hold; sizes among the arguments count as shapes."""
    leaves = pytree.tree_leaves((args, kwargs))
    if any(isinstance(leaf, Tensor) and leaf.numel() > _LARGEST for leaf in leaves):
        return True
    size = 1
    for leaf in leaves:
        if type(leaf) is int and leaf > 1:
            size *= leaf
    return size > _LARGEST


class _FromData(TorchFunctionMode):
    """Keeps the values of tensors that code makes of Python numbers or arrays."""

    def __init__(self, known: KnownValues) -> None:
        super().__init__()
        self.known = known

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in _FROM_DATA and isinstance(result, Tensor) and result.is_meta and result.numel() <= _LARGEST:
            data = args[0] if args else (kwargs or {}).get("data")
            if not any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(data)):
                self.known.add(result, torch.as_tensor(data, dtype=result.dtype, device="cpu").clone())
        return result


_active: list[KnownValues] = []


@contextmanager
def keep_known_values() -> Iterator[None]:
    """Keep the values of constants while a network runs on the meta device."""
    known = KnownValues()
    _active.append(known)
    try:
        with _FromData(known):
            yield
    finally:
        _active.pop()


def known_values() -> KnownValues | None:
    """The values kept in the current context."""
    return _active[-1] if _active else None
