"""Labels: which removable index stands at which position of a tensor, and which of them must go together.

Every dimension of every parameter gets fresh *atoms*, one integer per index. A tensor carries *families* of atoms:
integer arrays of the tensor's rank, of size 1 along dimensions on which they do not vary, that say which atom
stands at which position. A position without a family along a dimension is rigid: it cannot vanish. Operators only ever
move atoms (shape operators do so on the arrays themselves) or declare that two of them are one, so the whole
analysis is one pass and one union-find.
"""

from __future__ import annotations

import attrs
import numpy as np

from tickdsl.graph.arrays import IntArray

Family = IntArray
Families = tuple[Family, ...]
Shape = tuple[int, ...]


def varying_dims(family: Family) -> tuple[int, ...]:
    """The dimensions along which a family varies."""
    return tuple([dim for dim, size in enumerate(family.shape) if size > 1])


def squeeze_uniform(family: Family) -> Family:
    """The same family with size 1 along every dimension on which its atoms do not differ."""
    for dim in varying_dims(family):
        first = family.take([0], axis=dim)
        if (family == first).all():
            family = first
    return family


@attrs.frozen(eq=False)
class TensorInfo:
    """What is known of one tensor. `origin` names the parameter that it is a view of, `node` its operator."""

    shape: Shape
    families: Families
    node: str | None = None
    origin: str | None = None


def reshape_family(family: Family, shape: Shape, target: Shape) -> Family:
    """A family of a tensor of `shape` after the tensor was reshaped to `target`."""
    if family.size == 1:
        return family.reshape((1,) * len(target))
    spans = []
    for (i, j), (k, m) in matching_segments(shape, target):
        if all(size == 1 for size in family.shape[i:j]):
            spans.append((i, j, (1,) * (m - k)))
        else:
            spans.append((i, j, target[k:m]))
    full = list(family.shape)
    for i, j, out in spans:
        if any(size != 1 for size in out) or any(size != 1 for size in full[i:j]):
            full[i:j] = shape[i:j]
    expanded = np.broadcast_to(family, full)
    return squeeze_uniform(expanded.reshape([size for _, _, out in spans for size in out]))


def matching_segments(shape: Shape, target: Shape) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """The smallest runs of dimensions of two shapes whose products agree, from the left."""
    pairs = []
    i = k = 0
    while i < len(shape) or k < len(target):
        j, m = i, k
        left = right = 1
        if j < len(shape):
            left, j = left * shape[j], j + 1
        if m < len(target):
            right, m = right * target[m], m + 1
        while left != right:
            if left < right:
                left, j = left * shape[j], j + 1
            else:
                right, m = right * target[m], m + 1
        pairs.append(((i, j), (k, m)))
        i, k = j, m
    return pairs


def expand_rank(family: Family, rank: int) -> Family:
    """The family with leading dimensions of size 1, as broadcasting adds them."""
    return family if family.ndim == rank else family.reshape((1,) * (rank - family.ndim) + family.shape)


def varies_along(family: Family, dim: int) -> bool:
    """Whether a family varies along a dimension."""
    return bool(family.shape[dim] > 1)
