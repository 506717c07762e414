"""Labels: which removable index stands at which position of a tensor, and which of them must go together.

Every dimension of every parameter gets fresh *atoms*, one integer per index. A tensor carries *families* of atoms:
integer arrays of the tensor's rank, of size 1 along dimensions on which they do not vary, that say which atom
stands at which position. A position without a family along a dimension is rigid: it cannot vanish. Operators only ever
move atoms (shape operators do so on the arrays themselves) or declare that two of them are one, so the whole
analysis is one pass and one union-find.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs
import numpy as np

from tickdsl.graph.arrays import Bools, Ints

Family = Ints
Families = tuple[Family, ...]
Shape = tuple[int, ...]

#: The reason of what the network returns.
OUTPUT = "the network's output"


def varying(family: Family) -> tuple[int, ...]:
    """The dimensions along which a family varies."""
    return tuple([dim for dim, size in enumerate(family.shape) if size > 1])


def squeeze_uniform(family: Family) -> Family:
    """The same family with size 1 along every dimension on which its atoms do not differ."""
    for dim in varying(family):
        first = family.take([0], axis=dim)
        if (family == first).all():
            family = first
    return family


@attrs.frozen(eq=False)
class Value:
    """What is known of one tensor. `origin` names the parameter that it is a view of, `node` its operator."""

    shape: Shape
    families: Families
    node: str | None = None
    origin: str | None = None


@attrs.frozen(eq=False)
class Partition:
    """Atoms solved into components: `root[atom]`; which roots are fixed or inexact, and why; which are attention heads,
    and which the network's outputs."""

    root: Ints
    fixed: dict[int, str]
    inexact: dict[int, str]
    heads: frozenset[int]
    outputs: frozenset[int]


@attrs.define
class Atoms:
    """The atoms of a network, and everything that operators said of them."""

    count: int = 0
    _edges: list[tuple[Ints, Ints]] = attrs.field(factory=list)
    _fixed: list[tuple[Ints, str]] = attrs.field(factory=list)
    _inexact: list[tuple[Ints, str]] = attrs.field(factory=list)
    _heads: list[Ints] = attrs.field(factory=list)
    _rectangles: dict[bytes, Family] = attrs.field(factory=dict)
    _stays: Bools = attrs.field(factory=lambda: np.zeros(1024, dtype=bool))

    def new(self, count: int) -> Ints:
        """Fresh atoms."""
        self.count += count
        return np.arange(self.count - count, self.count, dtype=np.int64)

    def unify(self, one: Family, other: Family) -> None:
        """Position by position, with broadcasting, the atoms are one."""
        one, other = np.broadcast_arrays(one, other)
        self._edges.append((one.ravel(), other.ravel()))

    def merge(self, family: Family, dim: int) -> Family:
        """All atoms along a dimension are one; the family without variation there."""
        if family.shape[dim] == 1:
            return family
        first = family.take([0], axis=dim)
        self.unify(first, family)
        return first

    def fix(self, family: Family, reason: str) -> None:
        """These atoms can never go."""
        self._fixed.append((family.ravel(), reason))
        self._stay_flags()[family.ravel()] = True

    def is_fixed(self, family: Family) -> bool:
        """Whether all of these atoms have been fixed so far: then they say no more than no family does."""
        return bool(self._stay_flags()[family.ravel()].all())

    def _stay_flags(self) -> Bools:
        if len(self._stays) < self.count:
            self._stays = np.concatenate([self._stays, np.zeros(self.count, dtype=bool)])
        return self._stays

    def blur(self, family: Family, reason: str) -> None:
        """Removing one of these atoms changes the arithmetic of what stays."""
        self._inexact.append((family.ravel(), reason))

    def mark_heads(self, family: Family) -> None:
        """These atoms are attention heads."""
        self._heads.append(family.ravel())

    def rectangle(self, family: Family) -> None:
        """A tensor carries this family: what stays of it must be a rectangle."""
        if len(varying(family)) > 1:
            squeezed = np.squeeze(family)
            self._rectangles.setdefault(repr(squeezed.shape).encode() + squeezed.tobytes(), squeezed)

    def solve(self) -> Partition:
        """Join what is one, and make every family vary along one dimension only."""
        root = self._components()
        while self._join_rectangles(root):
            root = self._components()
        return Partition(
            root=root,
            fixed=_reasons(root, self._fixed),
            inexact=_reasons(root, self._inexact),
            heads=_roots(root, self._heads),
            outputs=_roots(root, (atoms for atoms, reason in self._fixed if reason == OUTPUT)),
        )

    def _components(self) -> Ints:
        root = np.arange(self.count, dtype=np.int64)
        if not self._edges:
            return root
        one = np.concatenate([edge[0] for edge in self._edges])
        other = np.concatenate([edge[1] for edge in self._edges])
        while True:
            a, b = root[one], root[other]
            open_ = a != b
            if not open_.any():
                return root
            one, other = one[open_], other[open_]
            np.minimum.at(root, np.maximum(a, b)[open_], np.minimum(a, b)[open_])
            while not np.array_equal(jumped := root[root], root):
                root = jumped

    def _join_rectangles(self, root: Ints) -> bool:
        """For each family that still varies along several dimensions keep the one with most units."""
        joined = False
        for family in self._rectangles.values():
            solved = squeeze_uniform(root[family])
            dims = varying(solved)
            if len(dims) > 1:
                joined = True
                keep = max(dims, key=lambda dim: solved.shape[dim])
                for dim in dims:
                    if dim != keep:
                        solved = self.merge(solved, dim)
        return joined


def _roots(root: Ints, said: Iterable[Ints]) -> frozenset[int]:
    return frozenset(component for atoms in said for component in np.unique(root[atoms]).tolist())


def _reasons(root: Ints, said: Iterable[tuple[Ints, str]]) -> dict[int, str]:
    found: dict[int, str] = {}
    for atoms, reason in said:
        for component in np.unique(root[atoms]).tolist():
            found.setdefault(component, reason)
    return found


def reshape(family: Family, shape: Shape, target: Shape) -> Family:
    """A family of a tensor of `shape` after the tensor was reshaped to `target`."""
    if family.size == 1:
        return family.reshape((1,) * len(target))
    pieces = []
    for (i, j), (k, m) in segments(shape, target):
        if all(size == 1 for size in family.shape[i:j]):
            pieces.append((i, j, (1,) * (m - k)))
        else:
            pieces.append((i, j, target[k:m]))
    full = list(family.shape)
    for i, j, out in pieces:
        if any(size != 1 for size in out) or any(size != 1 for size in full[i:j]):
            full[i:j] = shape[i:j]
    expanded = np.broadcast_to(family, full)
    return squeeze_uniform(expanded.reshape([size for _, _, out in pieces for size in out]))


def segments(shape: Shape, target: Shape) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """The smallest runs of dimensions of two shapes whose products agree, from the left."""
    found = []
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
        found.append(((i, j), (k, m)))
        i, k = j, m
    return found


def aligned(family: Family, rank: int) -> Family:
    """The family with leading dimensions of size 1, as broadcasting adds them."""
    return family if family.ndim == rank else family.reshape((1,) * (rank - family.ndim) + family.shape)


def join(atoms: Atoms, values: Sequence[Value], rank: int, where: str) -> Families:
    """The families of an element-wise result: where operands overlap, their atoms are one."""
    result = []
    for members in _clusters(values, rank):
        common = frozenset.intersection(*(frozenset(varying(family)) for family, _ in members))
        if not common:
            for family, _ in members:
                atoms.fix(family, f"`{where}` mixes it with values of another layout")
            continue
        reduced = []
        for family, _ in members:
            for dim in varying(family):
                if dim not in common:
                    family = atoms.merge(family, dim)
            reduced.append(family)
        for family in reduced[1:]:
            if family is not reduced[0]:
                atoms.unify(reduced[0], family)
        owners = {owner for _, owner in members}
        for owner, value in enumerate(values):
            if owner not in owners and _covers(value, rank, common):
                atoms.fix(reduced[0], f"`{where}` combines it with a value that cannot shrink")
        result.append(reduced[0])
    return tuple(result)


def _covers(value: Value, rank: int, dims: Iterable[int]) -> bool:
    shape = (1,) * (rank - len(value.shape)) + value.shape
    return any(shape[dim] > 1 for dim in dims)


def _clusters(values: Sequence[Value], rank: int) -> list[list[tuple[Family, int]]]:
    """The operands' families, those that vary along a common dimension together."""
    clusters: list[tuple[set[int], list[tuple[Family, int]]]] = []
    for owner, value in enumerate(values):
        for family in value.families:
            family = aligned(family, rank)
            dims, members = set(varying(family)), [(family, owner)]
            for cluster in [cluster for cluster in clusters if cluster[0] & dims]:
                clusters.remove(cluster)
                dims |= cluster[0]
                members = cluster[1] + members
            clusters.append((dims, members))
    return [members for dims, members in clusters if dims]


def reduce(atoms: Atoms, families: Families, dims: Iterable[int]) -> Families:
    """The families after the dimensions were summed away (kept with size 1)."""
    result = []
    for family in families:
        if set(varying(family)) <= set(dims):
            continue
        for dim in dims:
            family = atoms.merge(family, dim)
        result.append(family)
    return tuple(result)


def along(family: Family, dim: int) -> bool:
    """Whether a family varies along a dimension."""
    return bool(family.shape[dim] > 1)
