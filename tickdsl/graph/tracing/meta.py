"""Runs a network on the meta device, where tensors have shapes but no data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from tickdsl.dispatch_mode import DispatchMode
from tickdsl.graph.tracing.known_values import keep_known_values, known_values
from tickdsl.graph.tracing.module_copy import deepcopy_model
from tickdsl.graph.tracing.shape_functions import SHAPE_FUNCTIONS


def copy_to_meta(model: nn.Module) -> nn.Module:
    """Copy a network to the meta device; the network itself is not changed.

    Tensors in plain attributes, lists and dictionaries are moved too, except scalars, whose values code may read.
    """
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        empty = torch.empty_like(parameter, device="meta", requires_grad=False)
        memo[id(parameter)] = nn.Parameter(empty, requires_grad=False)
    for buffer in model.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    for held in tree_leaves([vars(module) for module in model.modules()]):
        if isinstance(held, Tensor) and held.dim() > 0 and id(held) not in memo:
            memo[id(held)] = torch.empty_like(held, device="meta")
    return deepcopy_model(model, memo)


def set_training_mode(model: nn.Module, train: bool) -> None:
    """Set the mode of containers, which auxiliary heads depend on; layers without children stay in eval mode."""
    for module in model.modules():
        module.training = train and any(True for _ in module.children())


@contextmanager
def on_meta_device() -> Iterator[None]:
    """Create new tensors on the meta device, record no gradients, and disable attention's fast path."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), torch.device("meta"), keep_known_values():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def run_operator(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Run an ATen operator; on the meta device, use our own shape function if there is one, and keep known values."""
    known = known_values()
    if known is None:
        return _run_on_meta(func, args, kwargs)
    return known.run(func, args, kwargs, lambda *known_args: _run_on_meta(func, known_args, kwargs))


def _run_on_meta(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    op, in_place = operator_name(func)
    shape_function = SHAPE_FUNCTIONS.get(op)
    if shape_function is not None and _is_meta(args) and "out" not in kwargs:
        result = shape_function(*args, **kwargs)
        if result is not None and not in_place:
            return result
        if result is not None and result.shape == args[0].shape:
            return args[0]
    return func(*args, **kwargs)


class MetaRun(DispatchMode):  # type: ignore[no-untyped-call]
    """Runs a network on the meta device without recording it."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return run_operator(func, args, kwargs or {})


def _is_meta(args: tuple[Any, ...]) -> bool:
    data = args[0] if args else None
    first = data[0] if isinstance(data, list | tuple) and data else data
    return isinstance(first, Tensor) and first.is_meta


_NAMES: dict[Any, tuple[str, bool]] = {}


def operator_name(func: Any) -> tuple[str, bool]:
    """An operator's name without namespace, overload and in-place suffix, and whether it works in place."""
    if func not in _NAMES:
        name: str = func._schema.name.split("::")[-1]
        in_place = name.endswith("_") and not name.endswith("__")
        _NAMES[func] = (name.removesuffix("_") if in_place else name), in_place
    return _NAMES[func]
