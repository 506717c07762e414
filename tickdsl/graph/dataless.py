"""Running a network without data: on the meta device, where tensors have shapes only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tickdsl.graph.copies import copied

#: Activations: the output is like the one operand, so that torch's own shape functions, which are slow, need not run.
_LIKE_INPUT = frozenset({
    "relu", "relu6", "hardtanh", "hardswish", "hardsigmoid", "silu", "gelu", "sigmoid", "tanh", "elu", "leaky_relu",
})  # fmt: skip


def copy_without_data(model: nn.Module) -> nn.Module:
    """A copy of the network on the meta device: shapes, no data; the network itself is not touched."""
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        empty = torch.empty_like(parameter, device="meta", requires_grad=False)
        memo[id(parameter)] = nn.Parameter(empty, requires_grad=False)
    for buffer in model.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copied(model, memo)


def set_mode(model: nn.Module, train: bool) -> None:
    """Containers in the mode asked for, since auxiliary heads depend on it; single layers always as in evaluation."""
    for module in model.modules():
        module.training = train and any(True for _ in module.children())


@contextmanager
def without_data() -> Iterator[None]:
    """New tensors have no data either, no gradients are recorded, and attention takes its ordinary path."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), torch.device("meta"):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def evaluate(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What an ATen operator gives."""
    data = args[0] if args else None
    if isinstance(data, Tensor) and data.is_meta:
        op, in_place = short_name(func)
        if op in _LIKE_INPUT and data.is_floating_point():
            return data if in_place else torch.empty_like(data)
        if op == "native_batch_norm" and not args[5]:
            if any(x is not None and x.shape != data.shape[1:2] for x in args[1:5]):
                raise RuntimeError(f"batch norm over {data.shape[1]} channels has {args[3].shape[0]} statistics")
            return torch.empty_like(data), data.new_empty(0), data.new_empty(0)
    return func(*args, **kwargs)


_NAMES: dict[Any, tuple[str, bool]] = {}


def short_name(func: Any) -> tuple[str, bool]:
    """An operator's name without namespace, overload and in-place mark; whether it works in place."""
    if func not in _NAMES:
        name: str = func._schema.name.split("::")[-1]
        in_place = name.endswith("_") and not name.endswith("__")
        _NAMES[func] = (name.removesuffix("_") if in_place else name), in_place
    return _NAMES[func]
