"""Sums, means, extremes over dimensions; lookups by index."""

from __future__ import annotations

from typing import Any

from tickdsl.graph.coupling.analysis import OperatorCall, Rule
from tickdsl.graph.coupling.families import Families, varying_dims
from tickdsl.graph.coupling.joins import reduce_families

_LOOKS_UP = "looks it up by position"


def reduction(call: OperatorCall) -> list[Families]:
    """A reduction over dimensions; over one that may shrink, what stays changes."""
    value = call.tensor_info("self")
    rank = len(value.shape)
    dim_argument: Any = call.arguments.get("dim")
    dims = (
        {dim % rank for dim in ([dim_argument] if isinstance(dim_argument, int) else dim_argument or range(rank))}
        if rank
        else set()
    )
    families: Families = tuple(
        call.constraints.restrict_to_whole_heads(family, dims, f"`{call.location}` reduces over the dims of heads")
        for family in value.families
    )
    for family in families:
        if set(varying_dims(family)) <= dims:
            call.constraints.mark_inexact(family, f"`{call.location}` reduces over the channels that are left")
        elif set(varying_dims(family)) & dims:
            call.constraints.fix(family, f"`{call.location}` reduces over the channels that are left", "dims")
    families = reduce_families(call.constraints, families, sorted(dims))
    keeps_dims = len(call.output_shape) == rank
    return [tuple(f if keeps_dims else f.squeeze(tuple(sorted(dims))) for f in families) for _ in call.outputs]


def index(call: OperatorCall) -> list[Families]:
    """`x[indices]`: what is looked up by position cannot shrink, the other dimensions can."""
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
    """Rows are looked up by position; the width is a producer."""
    value = call.tensor_info("weight")
    families = []
    for family in call.require_rigid({0}, value.families, _LOOKS_UP):
        call.analysis.add_role(family, "producer")
        families.append(family.reshape((1,) * (len(call.output_shape) - 1) + (-1,)))
    if value.origin is not None:
        call.analysis.weights.setdefault(value.origin, call.module)
    return [tuple(families)]


def index_select(call: OperatorCall) -> list[Families]:
    """`index_select` and `gather` along one dimension."""
    value = call.tensor_info("self")
    return [call.require_rigid({call["dim"] % len(value.shape)}, value.families, _LOOKS_UP)]


REDUCTIONS = (
    "sum", "mean", "amax", "amin", "max", "min", "var", "std", "var_mean", "std_mean", "prod", "any", "all",
    "logsumexp", "argmax", "argmin", "norm", "linalg_vector_norm",
)  # fmt: skip

RULES: dict[str, Rule] = {
    **dict.fromkeys(REDUCTIONS, reduction),
    "index": index,
    "embedding": embedding,
    "index_select": index_select,
}
