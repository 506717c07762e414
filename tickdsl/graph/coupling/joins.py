"""Joins the families of an operator's operands: element-wise, or in the sums of a product."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from tickdsl.graph.coupling.atom_constraints import AtomConstraints, Granularity, HeadDims
from tickdsl.graph.coupling.families import Families, Family, TensorInfo, expand_rank, varying_dims

_Member = tuple[Family, int]


@attrs.frozen
class MatrixProduct:
    """A product of two activations: its batch dimensions, and the dimension that it sums over."""

    module: str
    batch: frozenset[int]
    summed: int


def join_families(
    constraints: AtomConstraints,
    values: Sequence[TensorInfo],
    rank: int,
    location: str,
    product: MatrixProduct | None = None,
) -> Families:
    """The families of an element-wise result; where operands overlap, their atoms are unified."""
    result: list[Family] = []
    for members in _cluster_families(values, rank):
        common_dims = frozenset.intersection(*(frozenset(varying_dims(family)) for family, _ in members))
        family_join = _FamilyJoin(constraints, members, values, rank, location, common_dims)
        if not common_dims:
            for family, _ in members:
                constraints.fix(family, f"`{location}` combines it with a tensor of another layout")
        elif product is not None and _keeps_value_dims(members, product):
            result += family_join.mark_value_dims(product)
        elif (granularity := family_join.known_granularity()) is not None:
            result += family_join.unify_at(granularity)
        elif product is None and family_join.mixes_wide_and_narrow():
            # Heads × dims meet dims or heads alone (a rotary table), if later operators show that this is attention.
            constraints.defer(family_join.join_deferred)
            result += family_join.wide_families()
        else:
            result.append(family_join.unify_members(product is not None))
    return tuple(result)


@attrs.frozen
class _FamilyJoin:
    """Families that an operator joins, and the dimensions of its result along which all of them vary."""

    constraints: AtomConstraints
    members: Sequence[_Member]
    values: Sequence[TensorInfo]
    rank: int
    location: str
    common_dims: frozenset[int]

    def join_deferred(self) -> None:
        """Join families once it is known which dimensions are heads and which are their dims."""
        if (granularity := self.known_granularity()) is not None:
            self.unify_at(granularity)
        else:
            self.unify_members()

    def unify_members(self, factors: bool = False) -> Family:
        """Unify the members along the common dimensions, and merge all others; returns the one family."""
        constraints = self.constraints
        reduced = []
        for family, _ in self.members:
            for dim in varying_dims(family):
                if dim not in self.common_dims:
                    family = constraints.merge(family, dim)
            reduced.append(family)
        for family in reduced[1:]:
            if family is not reduced[0]:
                (constraints.unify_factors if factors else constraints.unify)(reduced[0], family)
        family = reduced[0]
        rigid = [dim for dim in self.common_dims if self._meets_rigid((dim,))]
        if len(rigid) == len(self.common_dims):
            constraints.fix(family, self._rigid_reason)
        else:
            for dim in rigid:
                family = constraints.merge(family, dim)
        return family

    def wide_families(self) -> list[Family]:
        """The members that vary along more than the common dimensions."""
        return [family for family, _ in self.members if not set(varying_dims(family)) <= self.common_dims]

    def mixes_wide_and_narrow(self) -> bool:
        """Whether some members vary along further dimensions, along which the tensors of the others have size 1."""
        extra_dims = {dim for family in self.wide_families() for dim in varying_dims(family)} - self.common_dims
        narrow_owners = [owner for family, owner in self.members if set(varying_dims(family)) <= self.common_dims]
        return bool(extra_dims and narrow_owners) and not any(
            _covers(self.values[owner], self.rank, extra_dims) for owner in narrow_owners
        )

    def known_granularity(self) -> Granularity | None:
        """The granularity of the common dimensions if some members have heads and dims, and others only one of them."""
        if not self.constraints.head_dims or not self.mixes_wide_and_narrow():
            return None
        inner = {frozenset(self.constraints.head_dim_axes(family)) for family in self.wide_families()}
        if len(inner) != 1 or not (dims := inner.pop()):
            return None
        return "dims" if self.common_dims == dims else "heads" if not self.common_dims & dims else None

    def unify_at(self, granularity: Granularity) -> list[Family]:
        """Unify the members at one granularity; at the other, members without further dimensions are fixed."""
        constraints, common_dims = self.constraints, self.common_dims
        other: Granularity = "heads" if granularity == "dims" else "dims"
        wide_families = self.wide_families()
        reduced = []
        for family, _ in self.members:
            reduced.append(constraints.merge_except(family, common_dims, granularity))
            if family is reduced[-1]:
                constraints.fix(family, self._rigid_reason, other)
            else:
                constraints.merge_except(family, set(varying_dims(family)) - common_dims, other)
        for family in reduced[1:]:
            constraints.unify(reduced[0], family, granularity)
        if self._meets_rigid(common_dims):
            constraints.fix(reduced[0], self._rigid_reason, granularity)
        return wide_families

    def mark_value_dims(self, product: MatrixProduct) -> list[Family]:
        """Join the factors of attention weights × values, which keeps the dims of the values separate."""
        for family, _ in self.members:
            inner = set(varying_dims(family)) - product.batch
            if inner:
                self.constraints.mark_head_dims(HeadDims(family, inner.pop(), product.module, self.location))
        return attrs.evolve(self, common_dims=self.common_dims & product.batch).unify_at("heads")

    @property
    def _rigid_reason(self) -> str:
        return f"`{self.location}` combines it with a tensor of fixed size"

    def _meets_rigid(self, dims: Iterable[int]) -> bool:
        owners = {owner for _, owner in self.members}
        return any(owner not in owners and _covers(value, self.rank, dims) for owner, value in enumerate(self.values))


def _keeps_value_dims(members: Sequence[_Member], product: MatrixProduct) -> bool:
    """Whether the product does not sum over these families, and one of them has dims of its own in each head."""
    dims = [set(varying_dims(family)) for family, _ in members]
    return (
        not any(product.summed in own_dims for own_dims in dims)
        and bool(frozenset.intersection(*map(frozenset, dims)) & product.batch)
        and any(len(own_dims - product.batch) == 1 for own_dims in dims)
        and all(len(own_dims - product.batch) <= 1 for own_dims in dims)
    )


def _covers(value: TensorInfo, rank: int, dims: Iterable[int]) -> bool:
    lead = rank - len(value.shape)
    return any(dim >= lead and value.shape[dim - lead] > 1 and dim - lead not in value.expanded for dim in dims)


def _cluster_families(values: Sequence[TensorInfo], rank: int) -> list[list[_Member]]:
    """Group the operands' families by the dimensions that they share."""
    clusters: list[tuple[set[int], list[_Member]]] = []
    for owner, value in enumerate(values):
        for family in value.families:
            family = expand_rank(family, rank)
            dims, members = set(varying_dims(family)), [(family, owner)]
            for cluster in [cluster for cluster in clusters if cluster[0] & dims]:
                clusters.remove(cluster)
                dims |= cluster[0]
                members = cluster[1] + members
            clusters.append((dims, members))
    return [members for dims, members in clusters if dims]


def reduce_families(constraints: AtomConstraints, families: Families, dims: Iterable[int]) -> Families:
    """The families after a reduction over `dims`, which keep size 1."""
    result = []
    for family in families:
        if set(varying_dims(family)) <= set(dims):
            continue
        for dim in dims:
            family = constraints.merge(family, dim)
        result.append(family)
    return tuple(result)
