"""What happens to families where operators bring values together: position by position, or in sums."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from tickdsl.graph.coupling.atoms import Atoms, HeadDims, Single
from tickdsl.graph.coupling.labels import Families, Family, Value, aligned, varying

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
        meeting = _Meeting(atoms, members, values, rank, where, common)
        if not common:
            for family, _ in members:
                atoms.fix(family, f"`{where}` mixes it with values of another layout")
        elif product is not None and _scatters(members, product):
            result += meeting.scattered(product)
        elif (reading := meeting.known()) is not None:
            result += meeting.read(reading)
        elif product is None and meeting.one_alone():
            # Heads × dims with dims or heads alone, if what comes shows that these are attention's: rotary tables.
            atoms.postpone(meeting.decide)
            result += meeting.wide()
        else:
            result.append(meeting.joined(product is not None))
    return tuple(result)


@attrs.frozen
class _Meeting:
    """Families that an operator brings together, and the dimensions of the result along which all of them vary."""

    atoms: Atoms
    members: Sequence[_Member]
    values: Sequence[Value]
    rank: int
    where: str
    common: frozenset[int]

    def decide(self) -> None:
        """Join what could not be joined before it was known where attention has heads and dims."""
        if (reading := self.known()) is not None:
            self.read(reading)
        else:
            self.joined()

    def joined(self, factors: bool = False) -> Family:
        """The one family of members that are one along the common dimensions and do not vary along others."""
        atoms = self.atoms
        reduced = []
        for family, _ in self.members:
            for dim in varying(family):
                if dim not in self.common:
                    family = atoms.merge(family, dim)
            reduced.append(family)
        for family in reduced[1:]:
            if family is not reduced[0]:
                (atoms.meet if factors else atoms.unify)(reduced[0], family)
        family = reduced[0]
        rigid = [dim for dim in self.common if self._meets_rigid((dim,))]
        if len(rigid) == len(self.common):
            atoms.fix(family, self._rigid)
        else:
            for dim in rigid:
                family = atoms.merge(family, dim)
        return family

    def wide(self) -> list[Family]:
        """The families that vary along more than the common dimensions."""
        return [family for family, _ in self.members if not set(varying(family)) <= self.common]

    def one_alone(self) -> bool:
        """Whether some members vary along more than the common dimensions, and others have one position there."""
        more = {dim for family in self.wide() for dim in varying(family)} - self.common
        narrow = [owner for family, owner in self.members if set(varying(family)) <= self.common]
        return bool(more and narrow) and not any(_covers(self.values[owner], self.rank, more) for owner in narrow)

    def known(self) -> Single | None:
        """In which reading the common dimensions vary, if some members have heads and dims, and others one of these."""
        if not self.atoms.head_dims or not self.one_alone():
            return None
        inner = {frozenset(self.atoms.dims_of(family)) for family in self.wide()}
        if len(inner) != 1 or not (dims := inner.pop()):
            return None
        return "dims" if self.common == dims else "heads" if not self.common & dims else None

    def read(self, reading: Single) -> list[Family]:
        """Members have the common dimensions in common in one reading; in the other, what has no others is rigid."""
        atoms, common = self.atoms, self.common
        other: Single = "heads" if reading == "dims" else "dims"
        wide = self.wide()
        reduced = []
        for family, _ in self.members:
            reduced.append(atoms.merge_but(family, common, reading))
            if family is reduced[-1]:
                atoms.fix(family, self._rigid, other)
            else:
                atoms.merge_but(family, set(varying(family)) - common, other)
        for family in reduced[1:]:
            atoms.unify(reduced[0], family, reading)
        if self._meets_rigid(common):
            atoms.fix(reduced[0], self._rigid, reading)
        return wide

    def scattered(self, product: Product) -> list[Family]:
        """Weights of every head times its values, or the like: the dims of the values stay apart."""
        for family, _ in self.members:
            inner = set(varying(family)) - product.batch
            if inner:
                self.atoms.mark_dims(HeadDims(family, inner.pop(), product.module, self.where))
        return attrs.evolve(self, common=self.common & product.batch).read("heads")

    @property
    def _rigid(self) -> str:
        return f"`{self.where}` combines it with a value that cannot shrink"

    def _meets_rigid(self, dims: Iterable[int]) -> bool:
        owners = {owner for _, owner in self.members}
        return any(owner not in owners and _covers(value, self.rank, dims) for owner, value in enumerate(self.values))


def _scatters(members: Sequence[_Member], product: Product) -> bool:
    """Whether the sums are over something else than these families, one of which has dims of its own in every head."""
    dims = [set(varying(family)) for family, _ in members]
    return (
        not any(product.summed in mine for mine in dims)
        and bool(frozenset.intersection(*map(frozenset, dims)) & product.batch)
        and any(len(mine - product.batch) == 1 for mine in dims)
        and all(len(mine - product.batch) <= 1 for mine in dims)
    )


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
