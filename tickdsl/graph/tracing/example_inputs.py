"""Example inputs as JSON-compatible descriptions: shapes and dtypes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tickdsl.errors import TickdslError
from tickdsl.graph.tracing.known_values import known_values

#: Values of larger tensors are not kept.
_MOST_VALUES = 1 << 14


class TraceError(TickdslError):
    """The network could not be run on the example inputs."""


def describe_inputs(example_inputs: Any, model: nn.Module) -> dict[str, Any]:
    """Describe example inputs in JSON-compatible form: tensors by shape and dtype, other values as they are.

    A dictionary holds keyword arguments, or is the only argument of a `forward` without parameters of these names.
    Raises TraceError for a value of an unsupported type.
    """
    if isinstance(example_inputs, Mapping) and _takes_keywords(model, example_inputs):
        return {"args": [], "kwargs": {name: _describe_value(value) for name, value in example_inputs.items()}}
    args = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    return {"args": [_describe_value(value) for value in args], "kwargs": {}}


def _takes_keywords(model: nn.Module, names: Mapping[str, Any]) -> bool:
    """Whether `forward` has parameters of these names; if not, it may take the dictionary itself."""
    signature = inspect.signature(model.forward)
    try:
        signature.bind(**names)
    except TypeError:
        try:
            signature.bind(names)
        except TypeError:
            return True
        return False
    return True


def _describe_value(value: Any) -> Any:
    if isinstance(value, Tensor):
        tensor: dict[str, Any] = {"shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
        if not (value.is_floating_point() or value.is_complex() or value.is_meta) and value.numel() <= _MOST_VALUES:
            tensor["values"] = value.flatten().tolist()
            tensor["values_shape"] = tensor["shape"]
        return tensor
    if isinstance(value, list | tuple):
        return [_describe_value(item) for item in value]
    if isinstance(value, Mapping):
        return {"dict": {name: _describe_value(item) for name, item in value.items()}}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TraceError(
        f"example inputs cannot contain a {type(value).__name__}",
        "pass tensors, numbers, strings, or lists or dictionaries of these",
    )


def build_inputs(inputs: dict[str, Any], floating: torch.dtype | None = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Build arguments on the meta device from `describe_inputs`, where their integer and boolean values are known.

    `floating` replaces the dtype of floating-point tensors. A tensor larger than in the example repeats its values.
    """

    def build_value(value: Any) -> Any:
        if isinstance(value, dict) and "dict" in value:
            return {name: build_value(item) for name, item in value["dict"].items()}
        if isinstance(value, dict):
            dtype = getattr(torch, value["dtype"])
            shape = list(value["shape"])
            dtype = floating if floating and dtype.is_floating_point else dtype
            tensor = torch.empty(shape, dtype=dtype, device="meta")
            known = known_values()
            if "values" in value and known is not None:
                known.add(tensor, _repeat_values(value, dtype))
            return tensor
        return [build_value(item) for item in value] if isinstance(value, list) else value

    return tuple(build_value(value) for value in inputs["args"]), {
        k: build_value(v) for k, v in inputs["kwargs"].items()
    }


def _repeat_values(value: dict[str, Any], dtype: torch.dtype) -> Tensor:
    tensor = torch.tensor(value["values"], dtype=dtype, device="cpu").reshape(value["values_shape"])
    for dim, size in enumerate(value["shape"]):
        tensor = tensor.index_select(dim, torch.arange(size, device="cpu") % max(tensor.shape[dim], 1))
    return tensor


def batch_size(inputs: dict[str, Any]) -> int | None:
    """The size of the first dimension if all tensors share it, otherwise None."""
    sizes: set[int | None] = set()

    def visit(value: Any) -> None:
        if isinstance(value, dict) and "dict" in value:
            for item in value["dict"].values():
                visit(item)
        elif isinstance(value, dict):
            sizes.add(value["shape"][0] if value["shape"] else None)
        elif isinstance(value, list):
            for item in value:
                visit(item)

    for value in (*inputs["args"], *inputs["kwargs"].values()):
        visit(value)
    return sizes.pop() if len(sizes) == 1 else None
