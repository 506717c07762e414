"""Rules for operators that look values up by index."""

from __future__ import annotations

from tickdsl.graph.coupling.analysis import OperatorCall, Rule
from tickdsl.graph.coupling.families import Families

_LOOKS_UP = "looks it up by index"


def index(call: OperatorCall) -> list[Families]:
    """`x[indices]`: indexed dimensions cannot shrink, the others can."""
    value, indices = call.tensor_info("self"), list(call["indices"])
    indexed_dims = [dim for dim, entry in enumerate(indices) if entry is not None]
    span = max(indices[dim].ndim for dim in indexed_dims)
    contiguous = indexed_dims == list(range(indexed_dims[0], indexed_dims[-1] + 1))
    families = []
    for family in call.require_rigid(indexed_dims, value.families, _LOOKS_UP):
        other_sizes = [size for dim, size in enumerate(family.shape) if dim not in indexed_dims]
        position = indexed_dims[0] if contiguous else 0
        families.append(family.reshape(*other_sizes[:position], *(1,) * span, *other_sizes[position:]))
    return [tuple(families)]


def embedding(call: OperatorCall) -> list[Families]:
    """Rows are looked up by index; the embedding dimension is a producer."""
    value = call.tensor_info("weight")
    families = []
    for family in call.require_rigid({0}, value.families, _LOOKS_UP):
        call.analysis.add_role(family, "producer")
        families.append(family.reshape((1,) * (len(call.output_shape) - 1) + (-1,)))
    if value.origin is not None:
        call.analysis.weights.setdefault(value.origin, call.module)
    return [tuple(families)]


def index_select(call: OperatorCall) -> list[Families]:
    """A lookup along one dimension."""
    value = call.tensor_info("self")
    return [call.require_rigid({call["dim"] % len(value.shape)}, value.families, _LOOKS_UP)]


RULES: dict[str, Rule] = {"index": index, "embedding": embedding, "index_select": index_select}
