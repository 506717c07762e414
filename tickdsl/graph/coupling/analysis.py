"""The interface of the operator rules: the call that a rule reads, and the analysis that it adds to."""

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
    """Multiply-adds of an operator: `factor` times the remaining sizes of a virtual tensor of `shape`."""

    factor: int
    shape: Shape
    families: Families


@attrs.define
class OperatorCall:
    """One call of an ATen operator: its arguments by name, its output tensors, and its location in the network.

    The rule of an operator that multiplies sets `work`.
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
        """The info of a tensor argument."""
        return self.analysis.tensor_info(self.arguments[name])

    def require_rigid(self, dims: Collection[int], families: Families, action: str) -> Families:
        """Fix the families that vary along any of `dims`, and return the others; `action` completes the reason."""
        free = []
        for family in families:
            if set(varying_dims(family)).isdisjoint(dims):
                free.append(family)
            else:
                self.constraints.fix(family, f"`{self.location}` {action}")
        return tuple(free)

    @property
    def constraints(self) -> AtomConstraints:
        return self.analysis.constraints

    @property
    def tensors(self) -> list[Tensor]:
        """All tensor arguments, including those in lists."""
        return list(_tensors(list(self.arguments.values())))

    @property
    def output_shape(self) -> Shape:
        """The shape of the first output."""
        return tuple(self.outputs[0].shape)


#: A rule returns the families of each output.
Rule = Callable[[OperatorCall], list[Families]]


def _tensors(arguments: Any) -> Iterator[Tensor]:
    for argument in arguments:
        if isinstance(argument, Tensor):
            yield argument
        elif isinstance(argument, list | tuple):
            yield from _tensors(argument)


@attrs.define
class Analysis:
    """What the rules have learnt about the tensors of one trace.

    The first `parameter_atom_count` atoms belong to parameters and buffers; those of `atom_owners[i]` (name, dimension)
    start at `atom_starts[i]`. `roles` maps parameter dimensions to what operators do with them. `weights` maps the
    parameters that are weights to their modules, in order of first use; `conv_weights` are those of convolutions, and
    `grouped_conv_weights` those of grouped ones. `value_dependent_modules` compute with scalars whose values are
    unknown on the meta device. `attention_modules` are the instances of `nn.MultiheadAttention`.
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
        """The info of a tensor; a tensor that was never recorded has no families, so it is rigid."""
        info = self.values.get(id(tensor))
        return info if info is not None else TensorInfo(tuple(tensor.shape), ())

    def set_tensor_info(self, tensor: Tensor, value: TensorInfo, module: str | None = None) -> None:
        """Set the info of a tensor computed by `module`. Keeps the tensor alive, so that its id stays unique."""
        families = tuple(family for family in value.families if not self.constraints.is_fixed(family))
        self.values[id(tensor)] = attrs.evolve(value, families=families)
        self.kept_alive.append(tensor)
        for family in families:
            # torch's attention layers pack queries, keys and values in one tensor; PrunedAttention does not.
            self.constraints.require_rectangle(family, "heads" if module in self.attention_modules else "both")

    def add_parameter(self, name: str, tensor: Tensor) -> None:
        """Give each dimension of a parameter or buffer its own atoms."""
        # A buffer is never a weight, even if it is a factor of a product.
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
        """Record the role in which an operator uses the parameter dimension that this family comes from."""
        if family.size:
            atom = int(family.flat[0])
            if atom < self.parameter_atom_count:
                self.roles.setdefault(self.atom_owners[bisect_right(self.atom_starts, atom) - 1], set()).add(role)
