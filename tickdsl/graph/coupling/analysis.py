"""What a rule sees of an operator call, and what it may say."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator
from typing import Any

import attrs
from torch import Tensor, nn

from tickdsl.graph.coupling.atoms import Atoms
from tickdsl.graph.coupling.labels import Families, Shape, Value, varying
from tickdsl.graph.model import Role


@attrs.frozen
class Work:
    """Multiply-adds of an operator: `factor` times the live sizes of a virtual tensor's dimensions."""

    factor: int
    shape: Shape
    families: Families


@attrs.define
class Call:
    """One call of an ATen operator: its arguments by name, its output tensors, and where it stands.

    A rule sets `work` where the operator multiplies.
    """

    op: str
    where: str
    module: str
    arguments: dict[str, Any]
    outputs: tuple[Tensor, ...]
    analysis: Analysis
    scalars: tuple[Any, ...] = ()
    work: Work | None = None

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def value(self, name: str) -> Value:
        """What is known of a tensor argument."""
        return self.analysis.value(self.arguments[name])

    def apart_from(self, dims: Collection[int], families: Families, does: str) -> Families:
        """The families that vary along none of the dimensions; the others cannot shrink for what the operator does."""
        kept = []
        for family in families:
            if set(varying(family)).isdisjoint(dims):
                kept.append(family)
            else:
                self.atoms.fix(family, f"`{self.where}` {does}")
        return tuple(kept)

    @property
    def atoms(self) -> Atoms:
        return self.analysis.atoms

    @property
    def tensors(self) -> list[Tensor]:
        """All tensor arguments, those within lists too."""
        return list(_tensors(list(self.arguments.values())))

    @property
    def shape(self) -> Shape:
        """The shape of the first output."""
        return tuple(self.outputs[0].shape)


#: A rule gives the families of every output.
Rule = Callable[[Call], list[Families]]


def _tensors(arguments: Any) -> Iterator[Tensor]:
    for argument in arguments:
        if isinstance(argument, Tensor):
            yield argument
        elif isinstance(argument, list | tuple):
            yield from _tensors(argument)


@attrs.define
class Analysis:
    """What has been learnt of the tensors of one trace.

    The first `parameter_atoms` atoms are those of parameters: those of dimension `owners[i]` begin at `starts[i]`.
    `roles` say what operators do with a dimension of a parameter; `weights` which parameters are weights of which
    module, in order of their first run; `convolutions` which of them are convolutions, `followers` which have the
    channels of their input. `unseen` are the modules whose code calculates with single numbers that a run without data
    does not show, `attention` those that are torch's attention layers.
    """

    atoms: Atoms
    values: dict[int, Value] = attrs.field(factory=dict)
    kept_alive: list[Tensor] = attrs.field(factory=list)
    owners: list[tuple[str, int]] = attrs.field(factory=list)
    starts: list[int] = attrs.field(factory=list)
    parameter_atoms: int = 0
    roles: dict[tuple[str, int], set[Role]] = attrs.field(factory=dict)
    weights: dict[str, str] = attrs.field(factory=dict)
    convolutions: set[str] = attrs.field(factory=set)
    followers: set[str] = attrs.field(factory=set)
    unseen: set[str] = attrs.field(factory=set)
    attention: frozenset[str] = frozenset()

    def value(self, tensor: Tensor) -> Value:
        """What is known of a tensor; of one that no operator made, that it is rigid."""
        known = self.values.get(id(tensor))
        return known if known is not None else Value(tuple(tensor.shape), ())

    def remember(self, tensor: Tensor, value: Value, module: str | None = None) -> None:
        """Say what a tensor that `module` made carries. It is kept alive, so that its identity stays its own."""
        families = tuple(family for family in value.families if not self.atoms.is_fixed(family))
        self.values[id(tensor)] = Value(value.shape, families, value.node, value.origin)
        self.kept_alive.append(tensor)
        for family in families:
            # torch's attention layers lay queries, keys and values side by side; those that take their place do not.
            self.atoms.rectangle(family, "heads" if module in self.attention else "both")

    def add_parameter(self, name: str, tensor: Tensor) -> None:
        """Give every dimension of a parameter or buffer its own atoms."""
        # A buffer is data, also where it is multiplied: it is no weight.
        origin = name if isinstance(tensor, nn.Parameter) else None
        families = []
        for dim, size in enumerate(tensor.shape):
            if size > 1:
                atoms = self.atoms.new(size)
                self.owners.append((name, dim))
                self.starts.append(self.parameter_atoms)
                self.parameter_atoms += size
                families.append(atoms.reshape([size if d == dim else 1 for d in range(tensor.ndim)]))
        self.remember(tensor, Value(tuple(tensor.shape), tuple(families), name, origin))

    def say(self, family: Any, role: Role) -> None:
        """An operator uses the parameter dimension that this family came from in that role."""
        if family.size:
            atom = int(family.flat[0])
            if atom < self.parameter_atoms:
                self.roles.setdefault(self.owners[bisect_right(self.starts, atom) - 1], set()).add(role)
