"""Constraints on atoms, and the union-find that solves them.

An array of attention heads can lose whole heads, or the same dimensions ("dims") of all heads, or both. The atoms are
therefore solved at two *granularities*, and a constraint holds at both unless it names one. At the granularity of
heads, all dims of a head are one unit; at the granularity of dims, the dims with the same index in all heads are one
unit. The entries that neither removes form a rectangle.
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

#: The reason why the channels that the network returns are fixed.
OUTPUT = "the network's output"


@attrs.frozen(eq=False)
class HeadDims:
    """Heads × dims in a product of two activations in `module`: `family` varies along the heads and along `dim`.

    If the product sums over the dims (queries and keys), `factors` are the families of its two operands.
    """

    family: Family
    dim: int
    module: str
    location: str
    factors: tuple[Family, ...] = ()


@attrs.frozen(eq=False)
class Partition:
    """Atoms solved into components.

    `root[atom]` is the representative of the atom's component. `fixed` and `inexact` map roots to reasons; `heads` are
    the roots of attention heads, and `outputs` those of the network's outputs.
    """

    root: IntArray
    fixed: dict[int, str]
    inexact: dict[int, str]
    heads: frozenset[int] = frozenset()
    outputs: frozenset[int] = frozenset()


@attrs.define
class AtomConstraints:
    """The atoms of a network and the constraints that its operators put on them."""

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
        """Create `count` atoms."""
        self.count += count
        return np.arange(self.count - count, self.count, dtype=np.int64)

    def unify(self, first: Family, second: Family, granularity: AnyGranularity = "both") -> None:
        """Make the atoms at each position one, with broadcasting: they can only be removed together."""
        first, second = np.broadcast_arrays(first, second)
        (self._edges if granularity == "both" else self._granularity_edges[granularity]).append(
            (first.ravel(), second.ravel())
        )

    def unify_factors(self, first: Family, second: Family) -> None:
        """Unify the atoms of two factors of a product; unlike with `unify`, their values stay independent."""
        first, second = np.broadcast_arrays(first, second)
        self._factor_edges.append((first.ravel(), second.ravel()))

    def merge(self, family: Family, dim: int, granularity: AnyGranularity = "both") -> Family:
        """Make all atoms along a dimension one; returns the family with size 1 there."""
        if family.shape[dim] == 1:
            return family
        first = family.take([0], axis=dim)
        self.unify(first, family, granularity)
        return first

    def merge_except(self, family: Family, kept: Iterable[int], granularity: AnyGranularity) -> Family:
        """Merge all dimensions but those in `kept`; returns the family with size 1 along the merged ones."""
        for dim in varying_dims(family):
            if dim not in kept:
                family = self.merge(family, dim, granularity)
        return family

    def mark_head_dims(self, mark: HeadDims) -> None:
        """Mark a family whose heads and dims can be removed independently."""
        self.head_dims.append(mark)
        if len(self._head_dim_index) < self.count:
            self._head_dim_index = np.concatenate([self._head_dim_index, np.full(self.count, -1, dtype=np.int64)])
        sizes = [-1 if dim == mark.dim else 1 for dim in range(mark.family.ndim)]
        dim_index = np.arange(mark.family.shape[mark.dim]).reshape(sizes)
        for family in (mark.family, *mark.factors):
            self._head_dim_index[family] = dim_index
        self.merge_except(mark.family, (mark.dim,), "dims")

    def head_dim_axes(self, family: Family) -> tuple[int, ...]:
        """The dimensions of a family that hold the dims of heads, as far as the marks so far show."""
        known = int(family.max()) < len(self._head_dim_index) and len(varying_dims(family)) > 1
        dim_index = self._head_dim_index[family] if known else None
        return () if dim_index is None or int(dim_index.min()) < 0 else varying_dims(squeeze_uniform(dim_index))

    def restrict_to_whole_heads(self, family: Family, dims: Iterable[int], reason: str) -> Family:
        """Fix the dims of heads, and merge them into whole heads, if `dims` hold heads or their dims."""
        inner = self.head_dim_axes(family)
        if len(inner) == len(varying_dims(family)) or not inner or not set(dims) & set(varying_dims(family)):
            return family
        self.fix(family, reason, "dims")
        return self.merge_except(family, [dim for dim in varying_dims(family) if dim not in inner], "heads")

    def sum_over_head_dims(self, mark: HeadDims) -> Family:
        """Add a product that sums over the dims of each head; returns the family of the sums.

        Removing a head removes whole sums; removing a dim removes one term from the sums of all heads.
        """
        self.mark_heads(mark.family)
        if self.is_fixed(mark.family):
            return self.merge(mark.family, mark.dim)
        self.mark_head_dims(mark)
        first = mark.family.take([0], axis=mark.dim)
        distinct, inverse = np.unique(first, return_inverse=True)
        sums = self.new_atoms(len(distinct))[inverse].reshape(first.shape)
        self.unify(sums, mark.family, "heads")
        return sums

    def fix(self, family: Family, reason: str, granularity: AnyGranularity = "both") -> None:
        """Fix atoms: they can never be removed."""
        self._fixed.append((family.ravel(), reason, granularity))
        if granularity == "both":
            self._fixed_flags()[family.ravel()] = True

    def is_fixed(self, family: Family) -> bool:
        """Whether all of these atoms are fixed already; such a family is equivalent to none."""
        return bool(self._fixed_flags()[family.ravel()].all())

    def _fixed_flags(self) -> BoolArray:
        if len(self._fixed_mask) < self.count:
            self._fixed_mask = np.concatenate([self._fixed_mask, np.zeros(self.count, dtype=bool)])
        return self._fixed_mask

    def mark_inexact(self, family: Family, reason: str) -> None:
        """Mark atoms whose removal changes the values of the remaining channels."""
        self._inexact.append((family.ravel(), reason))

    def mark_product_sum(self, mark: HeadDims, reason: str) -> None:
        """Mark a product that sums over dimensions of both factors; removal is exact if one factor can be zeroed."""
        self._product_sums.append((mark, reason))

    def mark_nonzero(self, family: Family) -> None:
        """Mark atoms whose values may be nonzero even if all their inputs are zero."""
        self._nonzero_atoms.append(family.ravel())

    def fix_if_single(self, family: Family, reason: str) -> None:
        """Fix a family selected by index if all its atoms turn out to be one."""
        self._fixed_if_single.append((family, reason))

    def mark_heads(self, family: Family) -> None:
        """Mark atoms as attention heads."""
        self._heads.append(family.ravel())

    def require_rectangle(self, family: Family, granularity: AnyGranularity = "both") -> None:
        """Require that the remaining positions of a tensor with this family form a rectangle."""
        if len(varying_dims(family)) > 1:
            squeezed = np.squeeze(family)
            key = repr(squeezed.shape).encode() + squeezed.tobytes()
            if granularity == "both" or key not in self._rectangles:
                self._rectangles[key] = squeezed, granularity

    def defer(self, decision: Callable[[], None]) -> None:
        """Postpone a decision until all operators have been recorded; `solve` runs it first."""
        self._deferred.append(decision)

    def solve(self) -> Partition:
        """Solve at the granularity of heads; afterwards each family varies along one dimension at most."""
        while self._deferred:
            self._deferred.pop(0)()
        for mark, reason in self._product_sums:
            factor = self.zeroable_factor(mark)
            if factor is None:
                self.mark_inexact(mark.family, reason)
            else:
                self._zeroable.append(factor)
        root = self._solve_at("heads", [family for family, _ in self._rectangles.values()])
        return Partition(
            root=root,
            fixed=self._reasons(root, "heads"),
            inexact=_reasons(root, self._inexact),
            heads=_roots_of(root, self._heads),
            outputs=_roots_of(root, (atoms for atoms, reason, _ in self._fixed if reason == OUTPUT)),
        )

    def solve_dims(self) -> Partition:
        """Solve at the granularity of dims; call `solve` first."""
        marked_atoms = np.zeros(self.count, dtype=bool)
        for mark in self.head_dims:
            marked_atoms[mark.family] = True
        rectangles = [family for family, granularity in self._rectangles.values() if granularity != "heads"]
        root = self._solve_at("dims", [family for family in rectangles if marked_atoms[family].any()])
        marked_roots = np.zeros(self.count, dtype=bool)
        for mark in self.head_dims:
            marked_roots[root[mark.family]] = True
        return Partition(root, self._reasons(root, "dims", marked_roots), _reasons(root, self._inexact, marked_roots))

    def zeroable_mask(self, extra_factors: Sequence[IntArray] = ()) -> BoolArray | None:
        """The atoms that zero a product when they are zero, as a mask; None if there are none.

        These are the zeroable factors of the marked product sums, and `extra_factors` (components of `base_roots`).
        """
        if not (self._zeroable or extra_factors):
            return None
        mask = np.zeros(self.count, dtype=bool)
        for components in (*self._zeroable, *extra_factors):
            mask[components] = True
        return mask[self.base_roots()]

    def zeroable_factor(self, mark: HeadDims) -> IntArray | None:
        """The first factor of a product sum that is zero whenever its parameters are, as components of `base_roots`.

        That is the queries, otherwise the keys; None if neither qualifies.
        """
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
        fixed = [(atoms, reason) for atoms, reason, scope in self._fixed if scope in ("both", granularity)]
        selected = ((root[family], family, reason) for family, reason in self._fixed_if_single)
        fixed += [(family.ravel(), reason) for roots, family, reason in selected if (roots == roots.flat[0]).all()]
        return _reasons(root, fixed, component_mask)

    def base_roots(self) -> IntArray:
        """The components without the constraints of a single granularity and without those between factors."""
        if self._base_roots is None:
            self._base_roots = self._components(np.arange(self.count, dtype=np.int64), self._edges)
        return self._base_roots

    @staticmethod
    def _components(root: IntArray, edges: Edges) -> IntArray:
        """Join components along further edges (pointer jumping)."""
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
        """Merge each family that varies along several dimensions to its largest one; returns whether any did.

        At the granularity of dims, only dimensions that hold the dims of heads are candidates, if there are any.
        """
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
    root: IntArray, atoms_with_reasons: Iterable[tuple[IntArray, str]], mask: BoolArray | None = None
) -> dict[int, str]:
    """The first reason of each component, of those in `mask` if it is given."""
    first_reasons: dict[int, str] = {}
    for atoms, reason in atoms_with_reasons:
        components = root[atoms]
        if mask is not None:
            components = components[mask[components]]
        for component in np.unique(components).tolist():
            first_reasons.setdefault(component, reason)
    return first_reasons
