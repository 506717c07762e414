"""Example inputs as JSON-compatible descriptions: shapes and dtypes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tickdsl.errors import TickdslError


class TraceError(TickdslError):
    """The network could not be run on the example inputs."""


def describe_inputs(example_inputs: Any) -> dict[str, Any]:
    """Describe example inputs in JSON-compatible form: tensors by shape and dtype, other values as they are.

    Raises TraceError for a value of an unsupported type.
    """
    if isinstance(example_inputs, dict):
        return {"args": [], "kwargs": {name: _describe_value(value) for name, value in example_inputs.items()}}
    args = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    return {"args": [_describe_value(value) for value in args], "kwargs": {}}


def _describe_value(value: Any) -> Any:
    if isinstance(value, Tensor):
        return {"shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
    if isinstance(value, list | tuple):
        return [_describe_value(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TraceError(
        f"example inputs cannot contain a {type(value).__name__}", "pass tensors, numbers, strings, or lists of these"
    )


def build_inputs(
    inputs: dict[str, Any], floating: torch.dtype | None = None, batch: int | None = None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Build arguments on the meta device from `describe_inputs`.

    `floating` replaces the dtype of floating-point tensors, and `batch` the first dimension of all tensors.
    """

    def build_value(value: Any) -> Any:
        if isinstance(value, dict):
            dtype = getattr(torch, value["dtype"])
            shape = list(value["shape"])
            if batch is not None and shape:
                shape[0] = batch
            return torch.empty(shape, dtype=floating if floating and dtype.is_floating_point else dtype, device="meta")
        return [build_value(item) for item in value] if isinstance(value, list) else value

    return tuple(build_value(value) for value in inputs["args"]), {
        k: build_value(v) for k, v in inputs["kwargs"].items()
    }


def batch_size(inputs: dict[str, Any]) -> int | None:
    """The size of the first dimension if all tensors share it, otherwise None."""
    sizes: set[int | None] = set()

    def visit(value: Any) -> None:
        if isinstance(value, dict):
            sizes.add(value["shape"][0] if value["shape"] else None)
        elif isinstance(value, list):
            for item in value:
                visit(item)

    for value in (*inputs["args"], *inputs["kwargs"].values()):
        visit(value)
    return sizes.pop() if len(sizes) == 1 else None
