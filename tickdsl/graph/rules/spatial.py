"""Pooling, interpolation and padding: they work on the trailing dimensions, channel by channel."""

from __future__ import annotations

from tickdsl.graph.analysis import Call, Rule
from tickdsl.graph.labels import Families, along


def trailing(count: int) -> Rule:
    """The rule of an operator over the last `count` dimensions, which must be rigid."""

    def rule(call: Call) -> list[Families]:
        value = call.analysis.value(call.tensors[0])
        rank = len(value.shape)
        families = []
        for family in value.families:
            if any(along(family, dim) for dim in range(rank - count, rank)):
                call.atoms.fix(family, f"`{call.where}` slides over it")
            else:
                families.append(family)
        return [tuple(families) for _ in call.outputs]

    return rule


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
