"""Pooling, interpolation, padding, windows: they work on the trailing dimensions, channel by channel."""

from __future__ import annotations

import math

import numpy as np

from tickdsl.graph.coupling.analysis import OperatorCall, Rule
from tickdsl.graph.coupling.families import Families, varies_along

#: Why the dimensions of pictures cannot shrink.
SLIDES = "slides over it"


def trailing_dims_rule(count: int) -> Rule:
    """The rule of an operator over the last `count` dimensions, which must be rigid."""

    def rule(call: OperatorCall) -> list[Families]:
        value = call.analysis.tensor_info(call.tensors[0])
        rank = len(value.shape)
        families = call.require_rigid(range(rank - count, rank), value.families, SLIDES)
        return [families for _ in call.outputs]

    return rule


def im2col(call: OperatorCall) -> list[Families]:
    """`im2col` (`F.unfold`): every position of a window becomes a channel, those of one channel side by side."""
    (families,) = trailing_dims_rule(2)(call)
    window_size = math.prod(call["kernel_size"])
    return [tuple([np.repeat(f, window_size if varies_along(f, -3) else 1, axis=-3).squeeze(-1) for f in families])]


def col2im(call: OperatorCall) -> list[Families]:
    """`col2im` (`F.fold`): the channels that `im2col` makes of one are one unit."""
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
    """`unfold`: windows along a dimension that must be rigid; the positions within are a new last dimension."""
    value = call.tensor_info("self")
    dim = call["dimension"] % len(value.shape)
    return [tuple(family[..., None] for family in call.require_rigid({dim}, value.families, SLIDES))]


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
