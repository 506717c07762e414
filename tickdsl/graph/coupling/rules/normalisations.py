"""Rules for normalisations: exact per channel; over channels, removal changes the remaining ones."""

from __future__ import annotations

from tickdsl.graph.coupling.analysis import OperatorCall, Rule
from tickdsl.graph.coupling.families import Families, Family, TensorInfo, varies_along, varying_dims
from tickdsl.graph.coupling.joins import join_families


def _join_affine(call: OperatorCall, families: Families, names: tuple[str, ...], shape: tuple[int, ...]) -> Families:
    """Unify scale, shift and statistics, which span the dimensions of `shape`, with the data."""
    data = call.tensor_info("input")
    values = [TensorInfo(data.shape, families)]
    for name in names:
        if call.arguments.get(name) is not None:
            value = call.tensor_info(name)
            for family in value.families:
                call.analysis.add_role(family, "norm")
            values.append(
                TensorInfo(shape, tuple(family.reshape(_broadcast_shape(family, shape)) for family in value.families))
            )
    return join_families(call.constraints, values, len(data.shape), call.location)


def _broadcast_shape(family: Family, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in which a parameter's family broadcasts to data of `shape`."""
    sizes = list(family.shape)
    return tuple(sizes.pop(0) if size > 1 and sizes else 1 for size in shape)


def batch_norm(call: OperatorCall) -> list[Families]:
    """Per channel (dimension 1): exact, unless batch statistics are over another dimension that may shrink."""
    shape = call.tensor_info("input").shape
    per_channel = tuple(size if dim == 1 else 1 for dim, size in enumerate(shape))
    names = ("weight", "bias", "running_mean", "running_var")
    families = _join_affine(call, call.tensor_info("input").families, names, per_channel)
    if call.arguments.get("training", call.op == "_batch_norm_with_update"):
        _mark_inexact(call, families, (0, *range(2, len(shape))), "normalises over it")
    vector = tuple(family.ravel().reshape(-1) for family in families if varying_dims(family) == (1,))
    return [families] + [vector if output.ndim == 1 and output.numel() else () for output in call.outputs[1:]]


def layer_norm(call: OperatorCall) -> list[Families]:
    """Over the last dimensions: exact only for families that do not vary along them."""
    value = call.tensor_info("input")
    dims = range(len(value.shape) - len(call["normalized_shape"]), len(value.shape))
    shape = tuple(size if dim in dims else 1 for dim, size in enumerate(value.shape))
    names = tuple(name for name in ("weight", "bias") if name in call.arguments)
    families = _join_affine(call, value.families, names, shape)
    _mark_inexact(call, families, tuple(dims), "normalises over it")
    statistics = []
    for family in families:
        for dim in dims:  # along these, all atoms are one or fixed
            family = family.take([0], axis=dim)
        if varying_dims(family):
            statistics.append(family)
    for family in statistics:
        call.constraints.mark_nonzero(family)
    return [families] + [tuple(statistics) for _ in call.outputs[1:]]


def group_norm(call: OperatorCall) -> list[Families]:
    """Over each group of channels, which are removed whole; with one group it is a layer norm."""
    value, groups = call.tensor_info("input"), call["group"]
    per_channel = tuple(size if dim == 1 else 1 for dim, size in enumerate(value.shape))
    families = _join_affine(call, value.families, ("weight", "bias"), per_channel)
    statistics: list[Family] = []
    for family in families:
        if varying_dims(family) != (1,):
            call.constraints.fix(family, f"`{call.location}` normalises over it")
        elif groups == 1:
            call.constraints.mark_inexact(family, f"`{call.location}` normalises over it")
        else:
            statistics.append(call.constraints.merge(family.reshape(groups, -1), 1).reshape(1, -1))
    return [families] + [tuple(statistics) for _ in call.outputs[1:]]


def weight_norm(call: OperatorCall) -> list[Families]:
    """A norm per position of one dimension of a weight: inexact over the other dimensions."""
    weight, length = call.tensor_info("v"), call.tensor_info("g")
    rank = len(weight.shape)
    families = join_families(call.constraints, [weight, length], rank, call.location)
    _mark_inexact(call, families, tuple(dim for dim in range(rank) if dim != call["dim"]), "normalises over it")
    return [families, length.families]


def softmax(call: OperatorCall) -> list[Families]:
    """Softmax, log-softmax, cumulative sums: inexact over a dimension that may shrink."""
    value = call.tensor_info("self")
    dim = call["dim"] % max(len(value.shape), 1)
    _mark_inexact(call, value.families, (dim,), "sums over it")
    for family in value.families:
        call.constraints.mark_nonzero(family)
    return [value.families for _ in call.outputs]


def _mark_inexact(call: OperatorCall, families: Families, dims: tuple[int, ...], action: str) -> None:
    for family in families:
        reduced_dims = [dim for dim in dims if varies_along(family, dim)]
        if reduced_dims and set(varying_dims(family)) <= set(reduced_dims):
            call.constraints.mark_inexact(family, f"`{call.location}` {action}")
        elif reduced_dims:
            call.constraints.fix(family, f"`{call.location}` {action}", "dims")
            call.constraints.merge_except(
                family, [dim for dim in varying_dims(family) if dim not in reduced_dims], "heads"
            )


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
    "logcumsumexp": softmax,
}
