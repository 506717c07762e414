"""Rules for element-wise operators with broadcasting, and for constants and noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from tickdsl.graph.coupling.analysis import OperatorCall, Rule
from tickdsl.graph.coupling.families import Families, Family, Shape, TensorInfo, varying_dims
from tickdsl.graph.coupling.joins import join_families


def pointwise(call: OperatorCall) -> list[Families]:
    """Any element-wise operator: atoms at the same position are unified."""
    values = [call.analysis.tensor_info(tensor) for tensor in call.tensors]
    for value in values:
        if value.origin is not None:
            for family in value.families:
                call.analysis.add_role(family, "other")
    families = join_families(call.constraints, values, len(call.output_shape), call.location)
    if call.op not in ZERO_AT_ZERO and not _adds_alike_tensors(call, values):
        for family in families:
            call.constraints.mark_nonzero(family)
    if any(_is_unseen_number(value) for value in values):
        call.analysis.value_dependent_modules.add(call.module)
    return [families for _ in call.outputs]


def _is_unseen_number(value: TensorInfo) -> bool:
    """Whether an operand is one number that depends on neither inputs nor parameters, and is not recorded."""
    return value.node is None and value.origin is None and math.prod(value.shape) == 1 and not value.is_literal


def _adds_alike_tensors(call: OperatorCall, values: Sequence[TensorInfo]) -> bool:
    """Whether the operator adds tensors that vary along the same dimensions; the sum is zero where all of them are."""
    if call.op not in ("add", "sub") or len(values) < 2:
        return False
    dims = [{dim - len(v.shape) for f in v.families for dim in varying_dims(f)} for v in values]
    return all(value_dims == dims[0] for value_dims in dims)


def copy_into(call: OperatorCall) -> list[Families]:
    """`copy_`: the source is unified with the (part of a) tensor that it overwrites."""
    values = [call.tensor_info("self"), call.tensor_info("src")]
    return [join_families(call.constraints, values, len(call.output_shape), call.location)]


def fresh_constant(call: OperatorCall) -> list[Families]:
    """Zeros, ones, noise: all elements are alike, so any size works; new atoms are unified with the other operand's."""
    outputs = [tuple(_fresh_families(call, tuple(output.shape))) for output in call.outputs]
    if "zeros" not in call.op:
        for families in outputs:
            for family in families:
                call.constraints.mark_nonzero(family)
    return outputs


def _fresh_families(call: OperatorCall, shape: Shape) -> Iterator[Family]:
    for dim, size in enumerate(shape):
        if size > 1:
            yield call.constraints.new_atoms(size).reshape([size if index == dim else 1 for index in range(len(shape))])


def fill_like(call: OperatorCall) -> list[Families]:
    """A constant or noise in the shape of another tensor, or filled in place."""
    families = call.tensor_info("self").families
    if "zero" not in call.op:
        for family in families:
            call.constraints.mark_nonzero(family)
    return [families for _ in call.outputs]


#: Operators that map zero to zero (for `div`, a zero dividend).
ZERO_AT_ZERO = frozenset(
    (
        "abs", "div", "elu", "erf", "gelu", "hardswish", "hardtanh", "leaky_relu", "mul", "native_dropout", "neg",
        "relu", "sign", "silu", "sin", "sqrt", "tanh", "_prelu_kernel",
    )
)  # fmt: skip
POINTWISE = (
    "_prelu_kernel", "hardswish", "hardtanh", "hardsigmoid", "native_dropout", "masked_fill", "where", "lerp",
    "complex", "polar", "_conj", "resolve_conj", "resolve_neg", "real", "imag",
)  # fmt: skip
LIKE = ("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "bernoulli", "fill", "zero")
CONSTANT = (
    "empty", "zeros", "ones", "full", "rand", "randn", "scalar_tensor", "empty_strided",
    "new_zeros", "new_ones", "new_full", "new_empty", "new_empty_strided",
)  # fmt: skip
NOISE_IN_PLACE = ("uniform", "normal", "bernoulli", "exponential")

RULES: dict[str, Rule] = {
    **dict.fromkeys(POINTWISE, pointwise),
    **dict.fromkeys(LIKE, fill_like),
    **dict.fromkeys(NOISE_IN_PLACE, fill_like),
    **dict.fromkeys(CONSTANT, fresh_constant),
    "copy": copy_into,
}
