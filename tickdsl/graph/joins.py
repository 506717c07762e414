"""What happens to families where operators bring values together: position by position, or in sums."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import attrs

from tickdsl.graph.atoms import Atoms, HeadDims, Single
from tickdsl.graph.labels import Families, Family, Value, aligned, varying

_Member = tuple[Family, int]


@attrs.frozen
class Product:
    """A product of two activations: its batch dimensions, and the one that it sums over."""

    module: str
    batch: frozenset[int]
    summed: int


def join(atoms: Atoms, values: Sequence[Value], rank: int, where: str, product: Product | None = None) -> Families:
    """The families of an element-wise result: where operands overlap, their atoms are one."""
    result: list[Family] = []
    for members in _clusters(values, rank):
        common = frozenset.intersection(*(frozenset(varying(family)) for family, _ in members))
        if not common:
            for family, _ in members:
                atoms.fix(family, f"`{where}` mixes it with values of another layout")
            continue
        if product is not None and _scatters(members, product):
            result += _scattered(atoms, members, values, rank, where, product)
            continue
        if (reading := _known(atoms, members, values, rank, common)) is not None:
            result += _read(atoms, members, values, rank, where, common, reading)
        elif product is None and _one_alone(members, values, rank, common):
            # Heads × dims with dims or heads alone, if what comes shows that these are attention's: rotary tables.
            atoms.postpone(partial(_decide, atoms, members, values, rank, where, common))
            result += _wide(members, common)
        else:
            result.append(_joined(atoms, members, values, rank, where, common, product is not None))
    return tuple(result)


def _decide(
    atoms: Atoms, members: Sequence[_Member], values: Sequence[Value], rank: int, where: str, common: frozenset[int]
) -> None:
    """Join what could not be joined before it was known where attention has heads and dims."""
    if (reading := _known(atoms, members, values, rank, common)) is not None:
        _read(atoms, members, values, rank, where, common, reading)
    else:
        _joined(atoms, members, values, rank, where, common)


def _joined(
    atoms: Atoms,
    members: Sequence[_Member],
    values: Sequence[Value],
    rank: int,
    where: str,
    common: frozenset[int],
    factors: bool = False,
) -> Family:
    """The one family of members that are one along the common dimensions and do not vary along others."""
    reduced = []
    for family, _ in members:
        for dim in varying(family):
            if dim not in common:
                family = atoms.merge(family, dim)
        reduced.append(family)
    for family in reduced[1:]:
        if family is not reduced[0]:
            (atoms.meet if factors else atoms.unify)(reduced[0], family)
    family = reduced[0]
    rigid = [dim for dim in common if _meets_rigid(members, values, rank, (dim,))]
    if len(rigid) == len(common):
        atoms.fix(family, f"`{where}` combines it with a value that cannot shrink")
    else:
        for dim in rigid:
            family = atoms.merge(family, dim)
    return family


def _wide(members: Sequence[_Member], common: frozenset[int]) -> list[Family]:
    return [family for family, _ in members if not set(varying(family)) <= common]


def _meets_rigid(members: Sequence[_Member], values: Sequence[Value], rank: int, dims: Iterable[int]) -> bool:
    owners = {owner for _, owner in members}
    return any(owner not in owners and _covers(value, rank, dims) for owner, value in enumerate(values))


def _scatters(members: Sequence[_Member], product: Product) -> bool:
    """Whether the sums are over something else than these families, one of which has dims of its own in every head."""
    dims = [set(varying(family)) for family, _ in members]
    return (
        not any(product.summed in mine for mine in dims)
        and bool(frozenset.intersection(*map(frozenset, dims)) & product.batch)
        and any(len(mine - product.batch) == 1 for mine in dims)
        and all(len(mine - product.batch) <= 1 for mine in dims)
    )


def _scattered(
    atoms: Atoms, members: Sequence[_Member], values: Sequence[Value], rank: int, where: str, product: Product
) -> list[Family]:
    """Weights of every head times its values, or the like: the dims of the values stay apart."""
    common = frozenset.intersection(*(frozenset(varying(family)) for family, _ in members)) & product.batch
    for family, _ in members:
        inner = set(varying(family)) - product.batch
        if inner:
            atoms.mark_dims(HeadDims(family, inner.pop(), product.module, where))
    return _read(atoms, members, values, rank, where, common, "heads")


def _known(
    atoms: Atoms, members: Sequence[_Member], values: Sequence[Value], rank: int, common: frozenset[int]
) -> Single | None:
    """In which reading the common dimensions vary, if some members have heads and dims, and others one of these."""
    if not atoms.head_dims or not _one_alone(members, values, rank, common):
        return None
    inner = {frozenset(atoms.dims_of(family)) for family in _wide(members, common)}
    if len(inner) != 1 or not (dims := inner.pop()):
        return None
    return "dims" if common == dims else "heads" if not common & dims else None


def _one_alone(members: Sequence[_Member], values: Sequence[Value], rank: int, common: frozenset[int]) -> bool:
    """Whether some members vary along more than the common dimensions, and others have one position there."""
    more = {dim for family in _wide(members, common) for dim in varying(family)} - common
    narrow = [owner for family, owner in members if set(varying(family)) <= common]
    return bool(more and narrow) and not any(_covers(values[owner], rank, more) for owner in narrow)


def _read(
    atoms: Atoms,
    members: Sequence[_Member],
    values: Sequence[Value],
    rank: int,
    where: str,
    common: frozenset[int],
    reading: Single,
) -> list[Family]:
    """Members have the common dimensions in common in one reading; in the other, what has no others is rigid."""
    reason = f"`{where}` combines it with a value that cannot shrink"
    wide = _wide(members, common)
    reduced = []
    for family, _ in members:
        reduced.append(atoms.merge_but(family, common, reading))
        if family is reduced[-1]:
            atoms.fix(family, reason, "heads" if reading == "dims" else "dims")
        else:
            atoms.merge_but(family, set(varying(family)) - common, "heads" if reading == "dims" else "dims")
    for family in reduced[1:]:
        atoms.unify(reduced[0], family, reading)
    if _meets_rigid(members, values, rank, common):
        atoms.fix(reduced[0], reason, reading)
    return wide


def _covers(value: Value, rank: int, dims: Iterable[int]) -> bool:
    shape = (1,) * (rank - len(value.shape)) + value.shape
    return any(shape[dim] > 1 for dim in dims)


def _clusters(values: Sequence[Value], rank: int) -> list[list[_Member]]:
    """The operands' families, those that vary along a common dimension together."""
    clusters: list[tuple[set[int], list[_Member]]] = []
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
