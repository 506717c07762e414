"""Atoms, and everything that operators said of them; which of them are one in the end.

An array of attention heads can lose heads, or the same dims of every head. Both are true at once, so the atoms are
solved at two *granularities*: what operators say holds for both, unless they say for which. At that of heads all dims
of one head are one, at that of dims those at one place in all heads. What neither lost stays: a rectangle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import attrs
import numpy as np

from tickdsl.graph.arrays import BoolArray, IntArray
from tickdsl.graph.coupling.families import Family, squeeze_uniform, varying_dims

Granularity = Literal["heads", "dims"]
AnyGranularity = Literal["both"] | Granularity
Edges = list[tuple[IntArray, IntArray]]

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
    location: str
    factors: tuple[Family, ...] = ()


@attrs.frozen(eq=False)
class Partition:
    """Atoms solved into components: `root[atom]`; which roots are fixed or inexact, and why; which are attention heads,
    and which the network's outputs."""

    root: IntArray
    fixed: dict[int, str]
    inexact: dict[int, str]
    heads: frozenset[int] = frozenset()
    outputs: frozenset[int] = frozenset()


@attrs.define
class AtomConstraints:
    """The atoms of a network, and everything that operators said of them."""

    count: int = 0
    head_dims: list[HeadDims] = attrs.field(factory=list)
    _edges: Edges = attrs.field(factory=list)
    _factor_edges: Edges = attrs.field(factory=list)
    _granularity_edges: dict[AnyGranularity, Edges] = attrs.field(factory=lambda: {"heads": [], "dims": []})
    _fixed: list[tuple[IntArray, str, AnyGranularity]] = attrs.field(factory=list)
    _inexact: list[tuple[IntArray, str]] = attrs.field(factory=list)
    _heads: list[IntArray] = attrs.field(factory=list)
    _product_sums: list[tuple[HeadDims, str]] = attrs.field(factory=list)
    _zeroable: list[IntArray] = attrs.field(factory=list)
    _nonzero_atoms: list[IntArray] = attrs.field(factory=list)
    _fixed_if_single: list[tuple[Family, str]] = attrs.field(factory=list)
    _deferred: list[Callable[[], None]] = attrs.field(factory=list)
    _rectangles: dict[bytes, tuple[Family, AnyGranularity]] = attrs.field(factory=dict)
    _fixed_mask: BoolArray = attrs.field(factory=lambda: np.zeros(1024, dtype=bool))
    _head_dim_index: IntArray = attrs.field(factory=lambda: np.full(1024, -1, dtype=np.int64))
    _base_roots: IntArray | None = None
    _nonzero_roots: BoolArray | None = None

    def new_atoms(self, count: int) -> IntArray:
        """Fresh atoms."""
        self.count += count
        return np.arange(self.count - count, self.count, dtype=np.int64)

    def unify(self, first: Family, second: Family, granularity: AnyGranularity = "both") -> None:
        """Position by position, with broadcasting, the atoms are one."""
        first, second = np.broadcast_arrays(first, second)
        (self._edges if granularity == "both" else self._granularity_edges[granularity]).append(
            (first.ravel(), second.ravel())
        )

    def unify_factors(self, first: Family, second: Family) -> None:
        """As `unify`, of the two factors of a product: their atoms are one, but not of one value."""
        first, second = np.broadcast_arrays(first, second)
        self._factor_edges.append((first.ravel(), second.ravel()))

    def merge(self, family: Family, dim: int, granularity: AnyGranularity = "both") -> Family:
        """All atoms along a dimension are one; the family without variation there."""
        if family.shape[dim] == 1:
            return family
        first = family.take([0], axis=dim)
        self.unify(first, family, granularity)
        return first

    def merge_except(self, family: Family, kept: Iterable[int], granularity: AnyGranularity) -> Family:
        """All atoms at one place along the dimensions kept are one; the family without variation along others."""
        for dim in varying_dims(family):
            if dim not in kept:
                family = self.merge(family, dim, granularity)
        return family

    def mark_head_dims(self, mark: HeadDims) -> None:
        """Here heads and dims can go, one by one."""
        self.head_dims.append(mark)
        if len(self._head_dim_index) < self.count:
            self._head_dim_index = np.concatenate([self._head_dim_index, np.full(self.count, -1, dtype=np.int64)])
        sizes = [-1 if dim == mark.dim else 1 for dim in range(mark.family.ndim)]
        place = np.arange(mark.family.shape[mark.dim]).reshape(sizes)
        for family in (mark.family, *mark.factors):
            self._head_dim_index[family] = place
        self.merge_except(mark.family, (mark.dim,), "dims")

    def head_dim_axes(self, family: Family) -> tuple[int, ...]:
        """The dimensions along which a family has the dims of heads, as far as that is known."""
        known = int(family.max()) < len(self._head_dim_index) and len(varying_dims(family)) > 1
        place = self._head_dim_index[family] if known else None
        return () if place is None or int(place.min()) < 0 else varying_dims(squeeze_uniform(place))

    def restrict_to_whole_heads(self, family: Family, dims: Iterable[int], reason: str) -> Family:
        """The family as one of whole heads, if these dimensions hold heads or their dims: the latter then stay."""
        inner = self.head_dim_axes(family)
        if len(inner) == len(varying_dims(family)) or not inner or not set(dims) & set(varying_dims(family)):
            return family
        self.fix(family, reason, "dims")
        return self.merge_except(family, [dim for dim in varying_dims(family) if dim not in inner], "heads")

    def sum_over_head_dims(self, mark: HeadDims) -> Family:
        """A product sums over the dims of every head: heads go by whole sums, or dims in all heads. The family of the
        sums, which have no dims."""
        self.mark_heads(mark.family)
        if self.is_fixed(mark.family):
            return self.merge(mark.family, mark.dim)
        self.mark_head_dims(mark)
        first = mark.family.take([0], axis=mark.dim)
        known, place = np.unique(first, return_inverse=True)
        sums = self.new_atoms(len(known))[place].reshape(first.shape)
        self.unify(sums, mark.family, "heads")
        return sums

    def fix(self, family: Family, reason: str, granularity: AnyGranularity = "both") -> None:
        """These atoms can never go."""
        self._fixed.append((family.ravel(), reason, granularity))
        if granularity == "both":
            self._fixed_flags()[family.ravel()] = True

    def is_fixed(self, family: Family) -> bool:
        """Whether all of these atoms have been fixed so far: then they say no more than no family does."""
        return bool(self._fixed_flags()[family.ravel()].all())

    def _fixed_flags(self) -> BoolArray:
        if len(self._fixed_mask) < self.count:
            self._fixed_mask = np.concatenate([self._fixed_mask, np.zeros(self.count, dtype=bool)])
        return self._fixed_mask

    def mark_inexact(self, family: Family, reason: str) -> None:
        """Removing one of these atoms changes the arithmetic of what stays."""
        self._inexact.append((family.ravel(), reason))

    def mark_product_sum(self, mark: HeadDims, reason: str) -> None:
        """A product sums over what both factors have: removal is exact where one of them can be made silent."""
        self._product_sums.append((mark, reason))

    def mark_nonzero(self, family: Family) -> None:
        """What these atoms carry may differ from zero where what it is calculated of is zero."""
        self._nonzero_atoms.append(family.ravel())

    def fix_if_single(self, family: Family, reason: str) -> None:
        """A choice of positions by their number: where one atom is all that it holds, that cannot go."""
        self._fixed_if_single.append((family, reason))

    def mark_heads(self, family: Family) -> None:
        """These atoms are attention heads."""
        self._heads.append(family.ravel())

    def require_rectangle(self, family: Family, granularity: AnyGranularity = "both") -> None:
        """A tensor carries this family: what stays of it must be a rectangle."""
        if len(varying_dims(family)) > 1:
            squeezed = np.squeeze(family)
            key = repr(squeezed.shape).encode() + squeezed.tobytes()
            if granularity == "both" or key not in self._rectangles:
                self._rectangles[key] = squeezed, granularity

    def defer(self, decision: Callable[[], None]) -> None:
        """What is to be said once all operators have been seen, before anything is solved."""
        self._deferred.append(decision)

    def solve(self) -> Partition:
        """Join what is one, and make every family vary along one dimension only: at the granularity of heads."""
        while self._deferred:
            self._deferred.pop(0)()
        for mark, reason in self._product_sums:
            silent = self.zeroable_factor(mark)
            if silent is None:
                self.mark_inexact(mark.family, reason)
            else:
                self._zeroable.append(silent)
        root = self._solve_at("heads", [family for family, _ in self._rectangles.values()])
        return Partition(
            root=root,
            fixed=self._reasons(root, "heads"),
            inexact=_reasons(root, self._inexact),
            heads=_roots_of(root, self._heads),
            outputs=_roots_of(root, (atoms for atoms, reason, _ in self._fixed if reason == OUTPUT)),
        )

    def solve_dims(self) -> Partition:
        """As `solve`, at the granularity of dims."""
        known = np.zeros(self.count, dtype=bool)
        for mark in self.head_dims:
            known[mark.family] = True
        rectangles = [family for family, granularity in self._rectangles.values() if granularity != "heads"]
        root = self._solve_at("dims", [family for family in rectangles if known[family].any()])
        known = np.zeros(self.count, dtype=bool)
        for mark in self.head_dims:
            known[root[mark.family]] = True
        return Partition(root, self._reasons(root, "dims", known), _reasons(root, self._inexact, known))

    def zeroable_mask(self, more: Sequence[IntArray] = ()) -> BoolArray | None:
        """Per atom whether its zeros silence a product: those of sums of products, and `more` silent factors."""
        if not (self._zeroable or more):
            return None
        mask = np.zeros(self.count, dtype=bool)
        for components in (*self._zeroable, *more):
            mask[components] = True
        return mask[self.base_roots()]

    def zeroable_factor(self, mark: HeadDims) -> IntArray | None:
        """The atoms of that factor of a sum over dims which is zero where its parameters are: the queries, or else the
        keys; None where neither is. Given as components of `base_roots`."""
        root = self.base_roots()
        if self._nonzero_roots is None:
            self._nonzero_roots = np.zeros(self.count, dtype=bool)
            for atoms in self._nonzero_atoms:
                self._nonzero_roots[root[atoms]] = True
        for factor in mark.factors:
            if not self._nonzero_roots[root[factor]].any():
                return root[factor].ravel()
        return None

    def _solve_at(self, granularity: Granularity, rectangles: Sequence[Family]) -> IntArray:
        edges = self._granularity_edges[granularity]
        root = self._components(self.base_roots(), self._factor_edges + edges)
        while self._join_rectangles(root, rectangles, granularity):
            root = self._components(root, edges)
        return root

    def _reasons(
        self, root: IntArray, granularity: Granularity, component_mask: BoolArray | None = None
    ) -> dict[int, str]:
        statements = [(atoms, reason) for atoms, reason, where in self._fixed if where in ("both", granularity)]
        picked = ((root[family], family, reason) for family, reason in self._fixed_if_single)
        statements += [(family.ravel(), reason) for roots, family, reason in picked if (roots == roots.flat[0]).all()]
        return _reasons(root, statements, component_mask)

    def base_roots(self) -> IntArray:
        """The components without what one reading alone says, and without what factors of products have in common."""
        if self._base_roots is None:
            self._base_roots = self._components(np.arange(self.count, dtype=np.int64), self._edges)
        return self._base_roots

    @staticmethod
    def _components(root: IntArray, edges: Edges) -> IntArray:
        """The components with these edges more."""
        if not edges:
            return root
        root = root.copy()
        first = np.concatenate([edge[0] for edge in edges])
        second = np.concatenate([edge[1] for edge in edges])
        while True:
            a, b = root[first], root[second]
            different = a != b
            if not different.any():
                return root
            first, second = first[different], second[different]
            np.minimum.at(root, np.maximum(a, b)[different], np.minimum(a, b)[different])
            while not np.array_equal(jumped := root[root], root):
                root = jumped

    def _join_rectangles(self, root: IntArray, families: Iterable[Family], granularity: Granularity) -> bool:
        """For each family that still varies along several dimensions keep the one with most units; at that of
        dims, one along which these vary."""
        joined = False
        for family in families:
            solved = squeeze_uniform(root[family])
            dims = varying_dims(solved)
            if len(dims) > 1:
                joined = True
                candidates = _prefer(dims, self.head_dim_axes(family)) if granularity == "dims" else dims
                self.merge_except(solved, (max(candidates, key=lambda dim: solved.shape[dim]),), granularity)
        return joined


def _prefer(dims: Sequence[int], preferred: Sequence[int]) -> Sequence[int]:
    return [dim for dim in dims if dim in preferred] or dims


def _roots_of(root: IntArray, atom_arrays: Iterable[IntArray]) -> frozenset[int]:
    return frozenset(component for atoms in atom_arrays for component in np.unique(root[atoms]).tolist())


def _reasons(
    root: IntArray, statements: Iterable[tuple[IntArray, str]], mask: BoolArray | None = None
) -> dict[int, str]:
    """Per component, of those in `mask`, what was said of it first."""
    first_reasons: dict[int, str] = {}
    for atoms, reason in statements:
        components = root[atoms]
        if mask is not None:
            components = components[mask[components]]
        for component in np.unique(components).tolist():
            first_reasons.setdefault(component, reason)
    return first_reasons
