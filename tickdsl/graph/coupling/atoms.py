"""Atoms, and everything that operators said of them; which of them are one in the end.

An array of attention heads can lose heads, or the same dims of every head. Both are true at once, so the atoms are
solved in two *readings*: what operators say holds in both, unless they say in which. In the reading of heads all dims
of one head are one, in the reading of dims those at one place in all heads. What neither lost stays: a rectangle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import attrs
import numpy as np

from tickdsl.graph.arrays import Bools, Ints
from tickdsl.graph.coupling.labels import Family, squeeze_uniform, varying

Single = Literal["heads", "dims"]
Reading = Literal["both"] | Single
Edges = list[tuple[Ints, Ints]]

#: The reason of what the network returns.
OUTPUT = "the network's output"


@attrs.frozen(eq=False)
class HeadDims:
    """Heads × dims as a product of two activations met them in `module`: `family` varies along heads and along `dim`.

    `factors` are the families of both sides where the product sums over the dims, queries and keys.
    """

    family: Family
    dim: int
    module: str
    where: str
    factors: tuple[Family, ...] = ()


@attrs.frozen(eq=False)
class Partition:
    """Atoms solved into components: `root[atom]`; which roots are fixed or inexact, and why; which are attention heads,
    and which the network's outputs."""

    root: Ints
    fixed: dict[int, str]
    inexact: dict[int, str]
    heads: frozenset[int] = frozenset()
    outputs: frozenset[int] = frozenset()


@attrs.define
class Atoms:
    """The atoms of a network, and everything that operators said of them."""

    count: int = 0
    head_dims: list[HeadDims] = attrs.field(factory=list)
    _edges: Edges = attrs.field(factory=list)
    _meetings: Edges = attrs.field(factory=list)
    _of_reading: dict[Reading, Edges] = attrs.field(factory=lambda: {"heads": [], "dims": []})
    _fixed: list[tuple[Ints, str, Reading]] = attrs.field(factory=list)
    _inexact: list[tuple[Ints, str]] = attrs.field(factory=list)
    _heads: list[Ints] = attrs.field(factory=list)
    _sums: list[tuple[HeadDims, str]] = attrs.field(factory=list)
    _silent: list[Ints] = attrs.field(factory=list)
    _shifted: list[Ints] = attrs.field(factory=list)
    _picked: list[tuple[Family, str]] = attrs.field(factory=list)
    _postponed: list[Callable[[], None]] = attrs.field(factory=list)
    _rectangles: dict[bytes, tuple[Family, Reading]] = attrs.field(factory=dict)
    _stays: Bools = attrs.field(factory=lambda: np.zeros(1024, dtype=bool))
    _place: Ints = attrs.field(factory=lambda: np.full(1024, -1, dtype=np.int64))
    _apart: Ints | None = None
    _nonzero: Bools | None = None

    def new(self, count: int) -> Ints:
        """Fresh atoms."""
        self.count += count
        return np.arange(self.count - count, self.count, dtype=np.int64)

    def unify(self, one: Family, other: Family, reading: Reading = "both") -> None:
        """Position by position, with broadcasting, the atoms are one."""
        one, other = np.broadcast_arrays(one, other)
        (self._edges if reading == "both" else self._of_reading[reading]).append((one.ravel(), other.ravel()))

    def meet(self, one: Family, other: Family) -> None:
        """As `unify`, of the two factors of a product: their atoms are one, but not of one value."""
        one, other = np.broadcast_arrays(one, other)
        self._meetings.append((one.ravel(), other.ravel()))

    def merge(self, family: Family, dim: int, reading: Reading = "both") -> Family:
        """All atoms along a dimension are one; the family without variation there."""
        if family.shape[dim] == 1:
            return family
        first = family.take([0], axis=dim)
        self.unify(first, family, reading)
        return first

    def merge_but(self, family: Family, kept: Iterable[int], reading: Reading) -> Family:
        """All atoms at one place along the dimensions kept are one; the family without variation along others."""
        for dim in varying(family):
            if dim not in kept:
                family = self.merge(family, dim, reading)
        return family

    def mark_dims(self, mark: HeadDims) -> None:
        """Here heads and dims can go, one by one."""
        self.head_dims.append(mark)
        if len(self._place) < self.count:
            self._place = np.concatenate([self._place, np.full(self.count, -1, dtype=np.int64)])
        sizes = [-1 if dim == mark.dim else 1 for dim in range(mark.family.ndim)]
        place = np.arange(mark.family.shape[mark.dim]).reshape(sizes)
        for family in (mark.family, *mark.factors):
            self._place[family] = place
        self.merge_but(mark.family, (mark.dim,), "dims")

    def dims_of(self, family: Family) -> tuple[int, ...]:
        """The dimensions along which a family has the dims of heads, as far as that is known."""
        known = int(family.max()) < len(self._place) and len(varying(family)) > 1
        place = self._place[family] if known else None
        return () if place is None or int(place.min()) < 0 else varying(squeeze_uniform(place))

    def whole_heads(self, family: Family, dims: Iterable[int], reason: str) -> Family:
        """The family as one of whole heads, if these dimensions hold heads or their dims: the latter then stay."""
        inner = self.dims_of(family)
        if len(inner) == len(varying(family)) or not inner or not set(dims) & set(varying(family)):
            return family
        self.fix(family, reason, "dims")
        return self.merge_but(family, [dim for dim in varying(family) if dim not in inner], "heads")

    def sum_of_heads(self, mark: HeadDims) -> Family:
        """A product sums over the dims of every head: heads go by whole sums, or dims in all heads. The family of the
        sums, which have no dims."""
        self.mark_heads(mark.family)
        if self.is_fixed(mark.family):
            return self.merge(mark.family, mark.dim)
        self.mark_dims(mark)
        first = mark.family.take([0], axis=mark.dim)
        known, place = np.unique(first, return_inverse=True)
        sums = self.new(len(known))[place].reshape(first.shape)
        self.unify(sums, mark.family, "heads")
        return sums

    def fix(self, family: Family, reason: str, reading: Reading = "both") -> None:
        """These atoms can never go."""
        self._fixed.append((family.ravel(), reason, reading))
        if reading == "both":
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

    def sum_of_products(self, mark: HeadDims, reason: str) -> None:
        """A product sums over what both factors have: removal is exact where one of them can be made silent."""
        self._sums.append((mark, reason))

    def shift(self, family: Family) -> None:
        """What these atoms carry may differ from zero where what it is calculated of is zero."""
        self._shifted.append(family.ravel())

    def pick(self, family: Family, reason: str) -> None:
        """A choice of positions by their number: where one atom is all that it holds, that cannot go."""
        self._picked.append((family, reason))

    def mark_heads(self, family: Family) -> None:
        """These atoms are attention heads."""
        self._heads.append(family.ravel())

    def rectangle(self, family: Family, reading: Reading = "both") -> None:
        """A tensor carries this family: what stays of it must be a rectangle."""
        if len(varying(family)) > 1:
            squeezed = np.squeeze(family)
            key = repr(squeezed.shape).encode() + squeezed.tobytes()
            if reading == "both" or key not in self._rectangles:
                self._rectangles[key] = squeezed, reading

    def postpone(self, decision: Callable[[], None]) -> None:
        """What is to be said once all operators have been seen, before anything is solved."""
        self._postponed.append(decision)

    def solve(self) -> Partition:
        """Join what is one, and make every family vary along one dimension only: in the reading of heads."""
        while self._postponed:
            self._postponed.pop(0)()
        for mark, reason in self._sums:
            silent = self.silent_factor(mark)
            if silent is None:
                self.blur(mark.family, reason)
            else:
                self._silent.append(silent)
        root = self._solved("heads", [family for family, _ in self._rectangles.values()])
        return Partition(
            root=root,
            fixed=self._reasons(root, "heads"),
            inexact=_reasons(root, self._inexact),
            heads=_roots(root, self._heads),
            outputs=_roots(root, (atoms for atoms, reason, _ in self._fixed if reason == OUTPUT)),
        )

    def solve_dims(self) -> Partition:
        """As `solve`, in the reading of dims."""
        known = np.zeros(self.count, dtype=bool)
        for mark in self.head_dims:
            known[mark.family] = True
        rectangles = [family for family, reading in self._rectangles.values() if reading != "heads"]
        root = self._solved("dims", [family for family in rectangles if known[family].any()])
        known = np.zeros(self.count, dtype=bool)
        for mark in self.head_dims:
            known[root[mark.family]] = True
        return Partition(root, self._reasons(root, "dims", known), _reasons(root, self._inexact, known))

    def silenced(self, more: Sequence[Ints] = ()) -> Bools | None:
        """Per atom whether its zeros silence a product: those of sums of products, and `more` silent factors."""
        if not (self._silent or more):
            return None
        found = np.zeros(self.count, dtype=bool)
        for components in (*self._silent, *more):
            found[components] = True
        return found[self.apart()]

    def silent_factor(self, mark: HeadDims) -> Ints | None:
        """The atoms of that factor of a sum over dims which is zero where its parameters are: the queries, or else the
        keys; None where neither is. Given as components of `apart`."""
        root = self.apart()
        if self._nonzero is None:
            self._nonzero = np.zeros(self.count, dtype=bool)
            for atoms in self._shifted:
                self._nonzero[root[atoms]] = True
        for factor in mark.factors:
            if not self._nonzero[root[factor]].any():
                return root[factor].ravel()
        return None

    def _solved(self, reading: Single, rectangles: Sequence[Family]) -> Ints:
        edges = self._of_reading[reading]
        root = self._components(self.apart(), self._meetings + edges)
        while self._join_rectangles(root, rectangles, reading):
            root = self._components(root, edges)
        return root

    def _reasons(self, root: Ints, reading: Single, among: Bools | None = None) -> dict[int, str]:
        said = [(atoms, reason) for atoms, reason, where in self._fixed if where in ("both", reading)]
        picked = ((root[family], family, reason) for family, reason in self._picked)
        said += [(family.ravel(), reason) for roots, family, reason in picked if (roots == roots.flat[0]).all()]
        return _reasons(root, said, among)

    def apart(self) -> Ints:
        """The components without what one reading alone says, and without what factors of products have in common."""
        if self._apart is None:
            self._apart = self._components(np.arange(self.count, dtype=np.int64), self._edges)
        return self._apart

    @staticmethod
    def _components(root: Ints, edges: Edges) -> Ints:
        """The components with these edges more."""
        if not edges:
            return root
        root = root.copy()
        one = np.concatenate([edge[0] for edge in edges])
        other = np.concatenate([edge[1] for edge in edges])
        while True:
            a, b = root[one], root[other]
            open_ = a != b
            if not open_.any():
                return root
            one, other = one[open_], other[open_]
            np.minimum.at(root, np.maximum(a, b)[open_], np.minimum(a, b)[open_])
            while not np.array_equal(jumped := root[root], root):
                root = jumped

    def _join_rectangles(self, root: Ints, families: Iterable[Family], reading: Single) -> bool:
        """For each family that still varies along several dimensions keep the one with most units; in the reading of
        dims, one along which these vary."""
        joined = False
        for family in families:
            solved = squeeze_uniform(root[family])
            dims = varying(solved)
            if len(dims) > 1:
                joined = True
                chosen = _among(dims, self.dims_of(family)) if reading == "dims" else dims
                self.merge_but(solved, (max(chosen, key=lambda dim: solved.shape[dim]),), reading)
        return joined


def _among(dims: Sequence[int], preferred: Sequence[int]) -> Sequence[int]:
    return [dim for dim in dims if dim in preferred] or dims


def _roots(root: Ints, said: Iterable[Ints]) -> frozenset[int]:
    return frozenset(component for atoms in said for component in np.unique(root[atoms]).tolist())


def _reasons(root: Ints, said: Iterable[tuple[Ints, str]], among: Bools | None = None) -> dict[int, str]:
    """Per component, of those `among` which it is wanted, what was said of it first."""
    found: dict[int, str] = {}
    for atoms, reason in said:
        components = root[atoms]
        if among is not None:
            components = components[among[components]]
        for component in np.unique(components).tolist():
            found.setdefault(component, reason)
    return found
