"""Pooling, interpolation, padding, windows: they work on the trailing dimensions, channel by channel."""

from __future__ import annotations

import math

import numpy as np

from tickdsl.graph.coupling.analysis import Call, Rule
from tickdsl.graph.coupling.labels import Families, along

#: Why the dimensions of pictures cannot shrink.
SLIDES = "slides over it"


def trailing(count: int) -> Rule:
    """The rule of an operator over the last `count` dimensions, which must be rigid."""

    def rule(call: Call) -> list[Families]:
        value = call.analysis.value(call.tensors[0])
        rank = len(value.shape)
        families = call.apart_from(range(rank - count, rank), value.families, SLIDES)
        return [families for _ in call.outputs]

    return rule


def columns(call: Call) -> list[Families]:
    """`im2col` (`F.unfold`): every position of a window becomes a channel, those of one channel side by side."""
    (families,) = trailing(2)(call)
    each = math.prod(call["kernel_size"])
    return [tuple([np.repeat(f, each if along(f, -3) else 1, axis=-3).squeeze(-1) for f in families])]


def from_columns(call: Call) -> list[Families]:
    """`col2im` (`F.fold`): the channels that `im2col` makes of one are one unit."""
    (families,) = trailing(1)(call)
    each = math.prod(call["kernel_size"])
    found = []
    for family in families:
        if along(family, -2):
            windows = family.reshape(*family.shape[:-2], -1, each, 1)
            family = call.atoms.merge(windows, windows.ndim - 2)
        else:
            family = family[..., None]
        found.append(family)
    return [tuple(found)]


def windows(call: Call) -> list[Families]:
    """`unfold`: windows along a dimension that must be rigid; the positions within are a new last dimension."""
    value = call.value("self")
    dim = call["dimension"] % len(value.shape)
    return [tuple(family[..., None] for family in call.apart_from({dim}, value.families, SLIDES))]


RULES: dict[str, Rule] = {}
for _count in (1, 2, 3):
    for _name in (
        "max_pool{}d_with_indices", "max_pool{}d", "avg_pool{}d", "_adaptive_avg_pool{}d", "adaptive_avg_pool{}d",
        "adaptive_max_pool{}d", "reflection_pad{}d", "replication_pad{}d", "upsample_nearest{}d",
        "_upsample_nearest_exact{}d", "fractional_max_pool{}d",
    ):  # fmt: skip
        RULES[_name.format(_count)] = trailing(_count)
for _name, _count in {
    "upsample_linear1d": 1, "upsample_bilinear2d": 2, "_upsample_bilinear2d_aa": 2, "upsample_bicubic2d": 2,
    "_upsample_bicubic2d_aa": 2, "upsample_trilinear3d": 3,
}.items():  # fmt: skip
    RULES[_name] = trailing(_count)
RULES |= {
    "im2col": columns, "col2im": from_columns, "unfold": windows, "grid_sampler_2d": trailing(2),
    "grid_sampler_3d": trailing(3), "triu": trailing(2), "tril": trailing(2),
}  # fmt: skip
