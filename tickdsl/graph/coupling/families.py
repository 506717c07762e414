"""Families of atoms: labels that track removable channels through a network.

Each index of each dimension of each parameter gets an *atom*, an integer. A tensor carries *families* of atoms: integer
arrays of the tensor's rank that hold the atom of each position, with size 1 along dimensions on which they do not vary.
A dimension without a family is rigid: it cannot shrink. Operators either move atoms (shape operators do so on the
arrays themselves) or make two of them one, so the analysis takes one pass and one union-find.
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
    """Reduce a family to size 1 along each dimension on which its atoms do not differ."""
    for dim in varying_dims(family):
        first = family.take([0], axis=dim)
        if (family == first).all():
            family = first
    return family


@attrs.frozen(eq=False)
class TensorInfo:
    """The shape and families of a tensor; `node` names its operator, `origin` the parameter that it is a view of.

    Along the dimensions in `expanded`, one position is repeated, so that any size is right. `is_literal`: it holds one
    number that is recorded with its operator, such as the -inf of a mask.
    """

    shape: Shape
    families: Families
    node: str | None = None
    origin: str | None = None
    expanded: frozenset[int] = frozenset()
    is_literal: bool = False


def reshape_family(family: Family, shape: Shape, target: Shape) -> Family:
    """Reshape a family along with its tensor, from `shape` to `target`."""
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
    """The smallest segments of two shapes, from the left, whose sizes have equal products."""
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
    """Add leading dimensions of size 1, as broadcasting does."""
    return family if family.ndim == rank else family.reshape((1,) * (rank - family.ndim) + family.shape)


def varies_along(family: Family, dim: int) -> bool:
    """Whether a family varies along a dimension."""
    return bool(family.shape[dim] > 1)
