"""What a rule sees of an operator call, and what it may say."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator
from typing import Any

import attrs
from torch import Tensor, nn

from tickdsl.graph.coupling.atom_constraints import AtomConstraints
from tickdsl.graph.coupling.families import Families, Shape, TensorInfo, varying_dims
from tickdsl.graph.model import Role


@attrs.frozen
class MacsFormula:
    """Multiply-adds of an operator: `factor` times the live sizes of a virtual tensor's dimensions."""

    factor: int
    shape: Shape
    families: Families


@attrs.define
class OperatorCall:
    """One call of an ATen operator: its arguments by name, its output tensors, and where it stands.

    A rule sets `work` where the operator multiplies.
    """

    op: str
    location: str
    module: str
    arguments: dict[str, Any]
    outputs: tuple[Tensor, ...]
    analysis: Analysis
    scalars: tuple[Any, ...] = ()
    work: MacsFormula | None = None

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def tensor_info(self, name: str) -> TensorInfo:
        """What is known of a tensor argument."""
        return self.analysis.tensor_info(self.arguments[name])

    def require_rigid(self, dims: Collection[int], families: Families, action: str) -> Families:
        """The families that vary along none of the dimensions; the others cannot shrink for what the operator does."""
        movable = []
        for family in families:
            if set(varying_dims(family)).isdisjoint(dims):
                movable.append(family)
            else:
                self.constraints.fix(family, f"`{self.location}` {action}")
        return tuple(movable)

    @property
    def constraints(self) -> AtomConstraints:
        return self.analysis.constraints

    @property
    def tensors(self) -> list[Tensor]:
        """All tensor arguments, those within lists too."""
        return list(_tensors(list(self.arguments.values())))

    @property
    def output_shape(self) -> Shape:
        """The shape of the first output."""
        return tuple(self.outputs[0].shape)


#: A rule gives the families of every output.
Rule = Callable[[OperatorCall], list[Families]]


def _tensors(arguments: Any) -> Iterator[Tensor]:
    for argument in arguments:
        if isinstance(argument, Tensor):
            yield argument
        elif isinstance(argument, list | tuple):
            yield from _tensors(argument)


@attrs.define
class Analysis:
    """What has been learnt of the tensors of one trace.

    The first `parameter_atom_count` atoms are parameters': those of `atom_owners[i]` begin at `atom_starts[i]`.
    `roles` say what operators do with a dimension of a parameter; `weights` which parameters are weights of which
    module, in order of their first run; `conv_weights` those of convolutions, `grouped_conv_weights` those with the
    channels of their input. `value_dependent_modules` calculate with single numbers that a run without data
    does not show, `attention_modules` those that are torch's attention layers.
    """

    constraints: AtomConstraints
    values: dict[int, TensorInfo] = attrs.field(factory=dict)
    kept_alive: list[Tensor] = attrs.field(factory=list)
    atom_owners: list[tuple[str, int]] = attrs.field(factory=list)
    atom_starts: list[int] = attrs.field(factory=list)
    parameter_atom_count: int = 0
    roles: dict[tuple[str, int], set[Role]] = attrs.field(factory=dict)
    weights: dict[str, str] = attrs.field(factory=dict)
    conv_weights: set[str] = attrs.field(factory=set)
    grouped_conv_weights: set[str] = attrs.field(factory=set)
    value_dependent_modules: set[str] = attrs.field(factory=set)
    attention_modules: frozenset[str] = frozenset()

    def tensor_info(self, tensor: Tensor) -> TensorInfo:
        """What is known of a tensor; of one that no operator made, that it is rigid."""
        known = self.values.get(id(tensor))
        return known if known is not None else TensorInfo(tuple(tensor.shape), ())

    def set_tensor_info(self, tensor: Tensor, value: TensorInfo, module: str | None = None) -> None:
        """Say what a tensor that `module` made carries. It is kept alive, so that its identity stays its own."""
        families = tuple(family for family in value.families if not self.constraints.is_fixed(family))
        self.values[id(tensor)] = TensorInfo(value.shape, families, value.node, value.origin)
        self.kept_alive.append(tensor)
        for family in families:
            # torch's attention layers lay queries, keys and values side by side; those that take their place do not.
            self.constraints.require_rectangle(family, "heads" if module in self.attention_modules else "both")

    def add_parameter(self, name: str, tensor: Tensor) -> None:
        """Give every dimension of a parameter or buffer its own atoms."""
        # A buffer is data, also where it is multiplied: it is no weight.
        origin = name if isinstance(tensor, nn.Parameter) else None
        families = []
        for dim, size in enumerate(tensor.shape):
            if size > 1:
                atoms = self.constraints.new_atoms(size)
                self.atom_owners.append((name, dim))
                self.atom_starts.append(self.parameter_atom_count)
                self.parameter_atom_count += size
                families.append(atoms.reshape([size if d == dim else 1 for d in range(tensor.ndim)]))
        self.set_tensor_info(tensor, TensorInfo(tuple(tensor.shape), tuple(families), name, origin))

    def add_role(self, family: Any, role: Role) -> None:
        """An operator uses the parameter dimension that this family came from in that role."""
        if family.size:
            atom = int(family.flat[0])
            if atom < self.parameter_atom_count:
                self.roles.setdefault(self.atom_owners[bisect_right(self.atom_starts, atom) - 1], set()).add(role)
