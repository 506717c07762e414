"""Fast shape functions of common operators on the meta device, where torch's own are slow Python.

A function takes an operator's arguments and returns a meta tensor of the same shape, dtype and memory layout as
torch's, or None to leave the call to torch: for rare cases, and for arguments that do not fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

ShapeFunction = Callable[..., Any]

_META = torch.device("meta")


def _empty_meta(like: Tensor, shape: Sequence[int]) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=_META)


def _contiguous_same_dtype(*tensors: Any) -> bool:
    """Whether all are contiguous floating-point tensors of one dtype."""
    first = tensors[0]
    return (
        isinstance(first, Tensor)
        and first.is_floating_point()
        and all(isinstance(t, Tensor) and t.dtype == first.dtype and t.is_contiguous() for t in tensors)
    )


def _is_ambiguous(tensor: Tensor) -> bool:
    """Whether a contiguous tensor is also contiguous in channels-last format, because of sizes of 1."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    rank = tensor.dim()
    return rank in formats and tensor.is_contiguous(memory_format=formats[rank])


def _is_dense(tensor: Tensor) -> bool:
    """Whether the tensor is dense in memory for some order of its dimensions, without gaps."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True


def _has_default_strides(tensor: Tensor) -> bool:
    """Whether all strides are those of a new tensor, even along dimensions of size 1, where they do not matter."""
    expected = 1
    for stride, size in zip(reversed(tensor.stride()), reversed(tensor.shape), strict=True):
        if stride != expected:
            return False
        expected *= max(size, 1)
    return True


def like(data: Tensor) -> Tensor:
    """The result of an element-wise function: the same shape, and the same layout if the input is dense."""
    if data.is_contiguous():
        return _empty_meta(data, data.shape)
    if _is_dense(data):
        return torch.empty_strided(data.shape, data.stride(), dtype=data.dtype, device=_META)
    return torch.empty_like(data)


def _same_shape(data: Any, *_: Any, **options: Any) -> Tensor | None:
    return like(data) if isinstance(data, Tensor) and data.is_floating_point() else None


def _clamp(data: Any, *bounds: Any) -> Tensor | None:
    return _same_shape(data) if all(x is None or isinstance(x, int | float) for x in bounds) else None


def _broadcast(left: Sequence[int], right: Sequence[int]) -> list[int] | None:
    if len(left) < len(right):
        left, right = right, left
    shape = list(left)
    for dim in range(-len(right), 0):
        if shape[dim] == 1:
            shape[dim] = right[dim]
        elif right[dim] not in (1, shape[dim]):
            return None
    return shape


def _binary(left: Any, right: Any, *_: Any, **options: Any) -> Tensor | None:
    if not isinstance(left, Tensor) or not left.is_floating_point() or "rounding_mode" in options:
        return None
    if isinstance(right, int | float):
        return like(left)
    if not isinstance(right, Tensor) or left.dtype != right.dtype:
        return None
    if left.shape == right.shape:
        return like(left)
    # torch orders the dimensions of the result by all strides, including those of dimensions of size 1.
    plain = _contiguous_same_dtype(left, right) and _has_default_strides(left) and _has_default_strides(right)
    shape = _broadcast(left.shape, right.shape) if plain else None
    return None if shape is None else _empty_meta(left, shape)


def _convolution(
    data: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool, _: Any, groups: int
) -> Tensor | None:
    rank = data.dim() - 2
    if (
        transposed
        or not _contiguous_same_dtype(data, weight)
        or not len(stride) == len(padding) == len(dilation) == rank
    ):
        return None
    rows, columns, *kernel = weight.shape
    if data.shape[1] != columns * groups or rows % groups or not (bias is None or list(bias.shape) == [rows]):
        return None
    shape = [data.shape[0], rows]
    for size, k, s, p, d in zip(data.shape[2:], kernel, stride, padding, dilation, strict=True):
        shape.append((size + 2 * p - d * (k - 1) - 1) // s + 1)
    return _empty_meta(data, shape) if min(shape) > 0 else None


def _batch_norm(
    data: Any, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, *_: Any
) -> tuple[Tensor, ...] | None:
    if training or data.dim() < 2 or not data.is_floating_point():
        return None
    if any(x is not None and x.shape != data.shape[1:2] for x in (weight, bias, mean, variance)):
        raise RuntimeError(f"batch norm expects {mean.shape[0]} channels, got {data.shape[1]}")
    return like(data), _empty_meta(data, (0,)), _empty_meta(data, (0,))


def _layer_norm(data: Any, shape: Sequence[int], weight: Any, bias: Any, eps: float) -> tuple[Tensor, ...] | None:
    rank = data.dim() - len(shape)
    if data.dtype not in (torch.float32, torch.float64) or rank < 0 or list(data.shape[rank:]) != list(shape):
        return None
    if any(x is not None and list(x.shape) != list(shape) for x in (weight, bias)):
        return None
    statistics = [*data.shape[:rank], *[1] * len(shape)]
    return _empty_meta(data, data.shape), _empty_meta(data, statistics), _empty_meta(data, statistics)


def _softmax(data: Any, dim: int, half: bool = False, **options: Any) -> Tensor | None:
    return (
        _empty_meta(data, data.shape)
        if not half and not options and _contiguous_same_dtype(data) and -data.dim() <= dim < data.dim()
        else None
    )


def _mean(data: Any, dims: Any = None, keepdim: bool = False, **options: Any) -> Tensor | None:
    rank = data.dim()
    if options or not dims or not _contiguous_same_dtype(data) or not all(-rank <= dim < rank for dim in dims):
        return None
    reduced = {dim % rank for dim in dims}
    sizes = [
        1 if index in reduced else size for index, size in enumerate(data.shape) if keepdim or index not in reduced
    ]
    return _empty_meta(data, sizes) if math.prod(data.shape) else None


def _product(left: Any, right: Any) -> Tensor | None:
    """`mm` and `bmm`: equal batches and inner sizes.

    Raises RuntimeError, in torch's words, for matrices that do not fit: torch imports sympy before it does so, and
    networks are often run at sizes that may not fit.
    """
    rank = left.dim()
    if rank != right.dim() or left.dtype != right.dtype or not left.is_floating_point():
        return None
    if rank == 2 and left.shape[1] != right.shape[0]:
        (rows, inner), (other, columns) = left.shape, right.shape
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({rows}x{inner} and {other}x{columns})")
    if left.shape[:-2] != right.shape[:-2] or left.shape[-1] != right.shape[-2]:
        return None
    return _empty_meta(left, [*left.shape[:-1], right.shape[-1]])


def _product_added(added: Any, left: Any, right: Any, **options: Any) -> Tensor | None:
    result = _product(left, right)
    if result is None or added.dtype != left.dtype or _broadcast(result.shape, added.shape) != list(result.shape):
        return None
    return result


def _cat(tensors: Sequence[Any], dim: int = 0) -> Tensor | None:
    first = tensors[0]
    if (
        not _contiguous_same_dtype(*tensors)
        or any(map(_is_ambiguous, tensors))
        or not -first.dim() <= dim < first.dim()
    ):
        return None
    dim %= first.dim()
    shape = list(first.shape)
    for tensor in tensors[1:]:
        if tensor.dim() != len(shape) or tensor.shape[:dim] != first.shape[:dim]:
            return None
        if tensor.shape[dim + 1 :] != first.shape[dim + 1 :]:
            return None
        shape[dim] += tensor.shape[dim]
    return _empty_meta(first, shape)


def _clone(data: Any, memory_format: Any = None) -> Tensor | None:
    if memory_format is torch.contiguous_format:
        return _empty_meta(data, data.shape)
    return like(data) if memory_format in (None, torch.preserve_format) else None


def _roll(data: Any, shifts: Any, dims: Any = ()) -> Tensor | None:
    return _empty_meta(data, data.shape) if dims and len(dims) == len(shifts) and data.numel() else None


ACTIVATIONS = (
    "relu", "hardtanh", "hardswish", "hardsigmoid", "silu", "gelu", "sigmoid", "tanh", "elu", "leaky_relu",
)  # fmt: skip

#: Shape functions by operator name, without overload and without the trailing underscore of in-place variants.
SHAPE_FUNCTIONS: dict[str, ShapeFunction] = {
    **dict.fromkeys(ACTIVATIONS, _same_shape),
    **dict.fromkeys(("add", "sub", "mul", "div"), _binary),
    **dict.fromkeys(("clamp", "clamp_min", "clamp_max"), _clamp),
    "convolution": _convolution,
    "native_batch_norm": _batch_norm,
    "native_layer_norm": _layer_norm,
    **dict.fromkeys(("_softmax", "_safe_softmax"), _softmax),
    "mean": _mean,
    **dict.fromkeys(("mm", "bmm"), _product),
    **dict.fromkeys(("addmm", "baddbmm"), _product_added),
    "cat": _cat,
    "clone": _clone,
    "roll": _roll,
}
