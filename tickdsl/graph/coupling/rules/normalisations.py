"""Normalisations: per channel they are exact; over channels, what stays changes."""

from __future__ import annotations

from tickdsl.graph.coupling.analysis import Call, Rule
from tickdsl.graph.coupling.joins import join
from tickdsl.graph.coupling.labels import Families, Family, Value, along, varying


def _affine(call: Call, families: Families, names: tuple[str, ...], shape: tuple[int, ...]) -> Families:
    """Scale, shift and statistics stand along dimensions of `shape`; their atoms are those of the data."""
    data = call.value("input")
    values = [Value(data.shape, families)]
    for name in names:
        if call.arguments.get(name) is not None:
            value = call.value(name)
            for family in value.families:
                call.analysis.say(family, "norm")
            values.append(Value(shape, tuple(family.reshape(_within(family, shape)) for family in value.families)))
    return join(call.atoms, values, len(data.shape), call.where)


def _within(family: Family, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A parameter's family in the shape of the data that it broadcasts to."""
    rest = list(family.shape)
    return tuple(rest.pop(0) if size > 1 and rest else 1 for size in shape)


def batch_norm(call: Call) -> list[Families]:
    """Per channel, dimension 1: exact, unless its own statistics are over something else that may shrink."""
    shape = call.value("input").shape
    per_channel = tuple(size if dim == 1 else 1 for dim, size in enumerate(shape))
    names = ("weight", "bias", "running_mean", "running_var")
    families = _affine(call, call.value("input").families, names, per_channel)
    if call.arguments.get("training", call.op == "_batch_norm_with_update"):
        _blur(call, families, (0, *range(2, len(shape))), "normalises over the channels that are left")
    vector = tuple(family.ravel().reshape(-1) for family in families if varying(family) == (1,))
    return [families] + [vector if output.ndim == 1 and output.numel() else () for output in call.outputs[1:]]


def layer_norm(call: Call) -> list[Families]:
    """Over the last dimensions: exact only for what does not vary along them."""
    value = call.value("input")
    dims = range(len(value.shape) - len(call["normalized_shape"]), len(value.shape))
    shape = tuple(size if dim in dims else 1 for dim, size in enumerate(value.shape))
    names = tuple(name for name in ("weight", "bias") if name in call.arguments)
    families = _affine(call, value.families, names, shape)
    _blur(call, families, tuple(dims), "normalises over the channels that are left")
    statistics = []
    for family in families:
        for dim in dims:  # along these all are one, or nothing can go
            family = family.take([0], axis=dim)
        if varying(family):
            statistics.append(family)
    for family in statistics:
        call.atoms.shift(family)
    return [families] + [tuple(statistics) for _ in call.outputs[1:]]


def group_norm(call: Call) -> list[Families]:
    """Over each group of channels: whole groups go. With one group it is a layer norm."""
    value, groups = call.value("input"), call["group"]
    per_channel = tuple(size if dim == 1 else 1 for dim, size in enumerate(value.shape))
    families = _affine(call, value.families, ("weight", "bias"), per_channel)
    statistics: list[Family] = []
    for family in families:
        if varying(family) != (1,):
            call.atoms.fix(family, f"`{call.where}` normalises over it")
        elif groups == 1:
            call.atoms.blur(family, f"`{call.where}` normalises over the channels that are left")
        else:
            statistics.append(call.atoms.merge(family.reshape(groups, -1), 1).reshape(1, -1))
    return [families] + [tuple(statistics) for _ in call.outputs[1:]]


def weight_norm(call: Call) -> list[Families]:
    """A length per position of one dimension of a weight: over the others, what stays changes."""
    weight, length = call.value("v"), call.value("g")
    rank = len(weight.shape)
    families = join(call.atoms, [weight, length], rank, call.where)
    _blur(call, families, tuple(dim for dim in range(rank) if dim != call["dim"]), "normalises over what is left")
    return [families, length.families]


def softmax(call: Call) -> list[Families]:
    """Softmax, log-softmax, cumulative sums: over a dimension that may shrink, what stays changes."""
    value = call.value("self")
    dim = call["dim"] % max(len(value.shape), 1)
    _blur(call, value.families, (dim,), "sums over the channels that are left")
    for family in value.families:
        call.atoms.shift(family)
    return [value.families for _ in call.outputs]


def _blur(call: Call, families: Families, dims: tuple[int, ...], what: str) -> None:
    for family in families:
        inside = [dim for dim in dims if along(family, dim)]
        if inside and set(varying(family)) <= set(inside):
            call.atoms.blur(family, f"`{call.where}` {what}")
        elif inside:
            call.atoms.fix(family, f"`{call.where}` {what}", "dims")
            call.atoms.merge_but(family, [dim for dim in varying(family) if dim not in inside], "heads")


BATCH = (
    "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "cudnn_batch_norm",
    "_batch_norm_no_update", "_batch_norm_with_update", "miopen_batch_norm", "batch_norm",
)  # fmt: skip

NORMS = frozenset((*BATCH, "native_layer_norm", "_fused_rms_norm", "native_group_norm", "_weight_norm_interface"))

RULES: dict[str, Rule] = {
    **dict.fromkeys(BATCH, batch_norm),
    **dict.fromkeys(("native_layer_norm", "_fused_rms_norm"), layer_norm),
    "native_group_norm": group_norm,
    "_weight_norm_interface": weight_norm,
    **dict.fromkeys(("_softmax", "_log_softmax", "_safe_softmax", "softmax", "log_softmax", "cumsum"), softmax),
}
