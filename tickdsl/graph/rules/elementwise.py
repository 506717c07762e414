"""Operators that work position by position, with broadcasting."""

from __future__ import annotations

from collections.abc import Iterator

from tickdsl.graph.analysis import Call, Rule
from tickdsl.graph.labels import Families, Family, Shape, join


def pointwise(call: Call) -> list[Families]:
    """Any element-wise operator: atoms that meet at one position are one."""
    values = [call.analysis.value(tensor) for tensor in call.tensors]
    for value in values:
        if value.origin is not None:
            for family in value.families:
                call.analysis.say(family, "other")
    families = join(call.atoms, values, len(call.shape), call.where)
    return [families for _ in call.outputs]


def assign(call: Call) -> list[Families]:
    """`copy_`: what is written, also into part of a tensor, has the sizes of what it is written over."""
    values = [call.value("self"), call.value("src")]
    return [join(call.atoms, values, len(call.shape), call.where)]


def constant(call: Call) -> list[Families]:
    """Zeros, ones, noise: every element is alike, so that any size will do; atoms of their own say which."""
    return [tuple(_fresh(call, tuple(output.shape))) for output in call.outputs]


def _fresh(call: Call, shape: Shape) -> Iterator[Family]:
    for dim, size in enumerate(shape):
        if size > 1:
            yield call.atoms.new(size).reshape([size if place == dim else 1 for place in range(len(shape))])


def filled(call: Call) -> list[Families]:
    """Noise or a constant in the shape of another tensor, or in its place."""
    return [call.value("self").families for _ in call.outputs]


POINTWISE = ("_prelu_kernel", "hardswish", "hardtanh", "hardsigmoid", "native_dropout", "masked_fill", "where", "lerp")
LIKE = ("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "bernoulli", "fill", "zero")
CONSTANT = (
    "empty", "zeros", "ones", "full", "rand", "randn", "scalar_tensor", "empty_strided",
    "new_zeros", "new_ones", "new_full", "new_empty", "new_empty_strided",
)  # fmt: skip
NOISE_IN_PLACE = ("uniform", "normal", "bernoulli", "exponential")

RULES: dict[str, Rule] = {
    **dict.fromkeys(POINTWISE, pointwise),
    **dict.fromkeys(LIKE, filled),
    **dict.fromkeys(NOISE_IN_PLACE, filled),
    **dict.fromkeys(CONSTANT, constant),
    "copy": assign,
}
