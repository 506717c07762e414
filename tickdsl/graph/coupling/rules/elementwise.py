"""Operators that work position by position, with broadcasting."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from tickdsl.graph.coupling.analysis import Call, Rule
from tickdsl.graph.coupling.joins import join
from tickdsl.graph.coupling.labels import Families, Family, Shape, Value, varying


def pointwise(call: Call) -> list[Families]:
    """Any element-wise operator: atoms that meet at one position are one."""
    values = [call.analysis.value(tensor) for tensor in call.tensors]
    for value in values:
        if value.origin is not None:
            for family in value.families:
                call.analysis.say(family, "other")
    families = join(call.atoms, values, len(call.shape), call.where)
    if call.op not in ZERO_AT_ZERO and not _adds(call, values):
        for family in families:
            call.atoms.shift(family)
    if any(value.node is None and value.origin is None and math.prod(value.shape) == 1 for value in values):
        call.analysis.unseen.add(call.module)
    return [families for _ in call.outputs]


def _adds(call: Call, values: Sequence[Value]) -> bool:
    """Whether it adds tensors that carry the same: zero where all are zero."""
    if call.op not in ("add", "sub") or len(values) < 2:
        return False
    dims = [{dim - len(v.shape) for f in v.families for dim in varying(f)} for v in values]
    return all(one == dims[0] for one in dims)


def assign(call: Call) -> list[Families]:
    """`copy_`: what is written, also into part of a tensor, has the sizes of what it is written over."""
    values = [call.value("self"), call.value("src")]
    return [join(call.atoms, values, len(call.shape), call.where)]


def constant(call: Call) -> list[Families]:
    """Zeros, ones, noise: every element is alike, so that any size will do; atoms of their own say which."""
    found = [tuple(_fresh(call, tuple(output.shape))) for output in call.outputs]
    if "zeros" not in call.op:
        for families in found:
            for family in families:
                call.atoms.shift(family)
    return found


def _fresh(call: Call, shape: Shape) -> Iterator[Family]:
    for dim, size in enumerate(shape):
        if size > 1:
            yield call.atoms.new(size).reshape([size if place == dim else 1 for place in range(len(shape))])


def filled(call: Call) -> list[Families]:
    """Noise or a constant in the shape of another tensor, or in its place."""
    families = call.value("self").families
    if "zero" not in call.op:
        for family in families:
            call.atoms.shift(family)
    return [families for _ in call.outputs]


#: Zero where what they calculate with is zero (of a quotient, what is divided).
ZERO_AT_ZERO = frozenset(
    (
        "abs", "div", "elu", "erf", "gelu", "hardswish", "hardtanh", "leaky_relu", "mul", "native_dropout", "neg",
        "relu", "sign", "silu", "sin", "sqrt", "tanh", "_prelu_kernel",
    )
)  # fmt: skip
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
