"""Rules for pooling, interpolation, padding and windows, which work on trailing dimensions, channel by channel."""

from __future__ import annotations

import math

import numpy as np

from tickdsl.graph.coupling.analysis import OperatorCall, Rule
from tickdsl.graph.coupling.families import Families, varies_along

#: Why spatial dimensions cannot shrink.
SPATIAL = "uses it as a spatial dimension"


def trailing_dims_rule(count: int) -> Rule:
    """Build the rule of an operator over the last `count` dimensions, which must be rigid."""

    def rule(call: OperatorCall) -> list[Families]:
        value = call.analysis.tensor_info(call.tensors[0])
        rank = len(value.shape)
        families = call.require_rigid(range(rank - count, rank), value.families, SPATIAL)
        return [families for _ in call.outputs]

    return rule


def im2col(call: OperatorCall) -> list[Families]:
    """`im2col` (`F.unfold`): each window position becomes a channel; those of one input channel are adjacent."""
    (families,) = trailing_dims_rule(2)(call)
    window_size = math.prod(call["kernel_size"])
    return [tuple([np.repeat(f, window_size if varies_along(f, -3) else 1, axis=-3).squeeze(-1) for f in families])]


def col2im(call: OperatorCall) -> list[Families]:
    """`col2im` (`F.fold`): the channels that `im2col` makes of one channel are one unit."""
    (families,) = trailing_dims_rule(1)(call)
    window_size = math.prod(call["kernel_size"])
    outputs = []
    for family in families:
        if varies_along(family, -2):
            windows = family.reshape(*family.shape[:-2], -1, window_size, 1)
            family = call.constraints.merge(windows, windows.ndim - 2)
        else:
            family = family[..., None]
        outputs.append(family)
    return [tuple(outputs)]


def windows(call: OperatorCall) -> list[Families]:
    """`unfold`: windows along a rigid dimension; the positions within a window are a new last dimension."""
    value = call.tensor_info("self")
    dim = call["dimension"] % len(value.shape)
    return [tuple(family[..., None] for family in call.require_rigid({dim}, value.families, SPATIAL))]


RULES: dict[str, Rule] = {}
for _count in (1, 2, 3):
    for _name in (
        "max_pool{}d_with_indices", "max_pool{}d", "avg_pool{}d", "_adaptive_avg_pool{}d", "adaptive_avg_pool{}d",
        "adaptive_max_pool{}d", "reflection_pad{}d", "replication_pad{}d", "upsample_nearest{}d",
        "_upsample_nearest_exact{}d", "fractional_max_pool{}d",
    ):  # fmt: skip
        RULES[_name.format(_count)] = trailing_dims_rule(_count)
for _name, _count in {
    "upsample_linear1d": 1, "upsample_bilinear2d": 2, "_upsample_bilinear2d_aa": 2, "upsample_bicubic2d": 2,
    "_upsample_bicubic2d_aa": 2, "upsample_trilinear3d": 3,
}.items():  # fmt: skip
    RULES[_name] = trailing_dims_rule(_count)
RULES |= {
    "im2col": im2col, "col2im": col2im, "unfold": windows, "grid_sampler_2d": trailing_dims_rule(2),
    "grid_sampler_3d": trailing_dims_rule(3), "triu": trailing_dims_rule(2), "tril": trailing_dims_rule(2),
}  # fmt: skip
