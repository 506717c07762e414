"""Sums, means, extremes over dimensions; lookups by index."""

from __future__ import annotations

from typing import Any

from tickdsl.graph.coupling.analysis import Call, Rule
from tickdsl.graph.coupling.joins import reduce
from tickdsl.graph.coupling.labels import Families, varying

_LOOKS_UP = "looks it up by position"


def reduction(call: Call) -> list[Families]:
    """A reduction over dimensions; over one that may shrink, what stays changes."""
    value = call.value("self")
    rank = len(value.shape)
    asked: Any = call.arguments.get("dim")
    dims = {dim % rank for dim in ([asked] if isinstance(asked, int) else asked or range(rank))} if rank else set()
    families: Families = tuple(
        call.atoms.whole_heads(family, dims, f"`{call.where}` reduces over the dims of heads")
        for family in value.families
    )
    for family in families:
        if set(varying(family)) <= dims:
            call.atoms.blur(family, f"`{call.where}` reduces over the channels that are left")
        elif set(varying(family)) & dims:
            call.atoms.fix(family, f"`{call.where}` reduces over the channels that are left", "dims")
    families = reduce(call.atoms, families, sorted(dims))
    kept = len(call.shape) == rank
    return [tuple(f if kept else f.squeeze(tuple(sorted(dims))) for f in families) for _ in call.outputs]


def index(call: Call) -> list[Families]:
    """`x[indices]`: what is looked up by position cannot shrink, the other dimensions can."""
    value, indices = call.value("self"), list(call["indices"])
    used = [dim for dim, entry in enumerate(indices) if entry is not None]
    span = max(indices[dim].ndim for dim in used)
    contiguous = used == list(range(used[0], used[-1] + 1))
    families = []
    for family in call.apart_from(used, value.families, _LOOKS_UP):
        rest = [size for dim, size in enumerate(family.shape) if dim not in used]
        place = used[0] if contiguous else 0
        families.append(family.reshape(*rest[:place], *(1,) * span, *rest[place:]))
    return [tuple(families)]


def embedding(call: Call) -> list[Families]:
    """Rows are looked up by position; the width is a producer."""
    value = call.value("weight")
    families = []
    for family in call.apart_from({0}, value.families, _LOOKS_UP):
        call.analysis.say(family, "producer")
        families.append(family.reshape((1,) * (len(call.shape) - 1) + (-1,)))
    if value.origin is not None:
        call.analysis.weights.setdefault(value.origin, call.module)
    return [tuple(families)]


def index_select(call: Call) -> list[Families]:
    """`index_select` and `gather` along one dimension."""
    value = call.value("self")
    return [call.apart_from({call["dim"] % len(value.shape)}, value.families, _LOOKS_UP)]


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
