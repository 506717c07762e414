"""Rules for reductions: sums, means, extremes, norms over dimensions."""

from __future__ import annotations

from typing import Any

from tickdsl.graph.coupling.analysis import OperatorCall, Rule
from tickdsl.graph.coupling.families import Families, varying_dims
from tickdsl.graph.coupling.joins import reduce_families


def reduction(call: OperatorCall) -> list[Families]:
    """A reduction over dimensions: inexact over one that may shrink."""
    value = call.tensor_info("self")
    rank = len(value.shape)
    dim_argument: Any = call.arguments.get("dim")
    dims = (
        {dim % rank for dim in ([dim_argument] if isinstance(dim_argument, int) else dim_argument or range(rank))}
        if rank
        else set()
    )
    families: Families = tuple(
        call.constraints.restrict_to_whole_heads(family, dims, f"`{call.location}` reduces over the dims of its heads")
        for family in value.families
    )
    for family in families:
        if set(varying_dims(family)) <= dims:
            call.constraints.mark_inexact(family, f"`{call.location}` reduces over it")
        elif set(varying_dims(family)) & dims:
            call.constraints.fix(family, f"`{call.location}` reduces over it", "dims")
    families = reduce_families(call.constraints, families, sorted(dims))
    keeps_dims = len(call.output_shape) == rank
    return [tuple(f if keeps_dims else f.squeeze(tuple(sorted(dims))) for f in families) for _ in call.outputs]


REDUCTIONS = (
    "sum", "mean", "amax", "amin", "max", "min", "var", "std", "var_mean", "std_mean", "prod", "any", "all",
    "logsumexp", "argmax", "argmin", "norm", "linalg_vector_norm",
)  # fmt: skip

RULES: dict[str, Rule] = dict.fromkeys(REDUCTIONS, reduction)
