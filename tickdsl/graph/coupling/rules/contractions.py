"""Rules for operators that multiply and sum: convolutions and matrix products."""

from __future__ import annotations

import math

import attrs

from tickdsl.graph.coupling.analysis import MacsFormula, OperatorCall, Rule
from tickdsl.graph.coupling.atom_constraints import HeadDims
from tickdsl.graph.coupling.families import Families, Family, TensorInfo, varies_along, varying_dims
from tickdsl.graph.coupling.joins import MatrixProduct, join_families
from tickdsl.graph.coupling.rules.spatial import SPATIAL


def _vector_along(families: Families, dim: int) -> Family | None:
    """The family that varies along a dimension, flattened."""
    for family in families:
        if varies_along(family, dim):
            return family.ravel()
    return None


def convolution(call: OperatorCall) -> list[Families]:
    """Convolutions and transposed convolutions; grouped ones lose whole groups."""
    data, weight = call.tensor_info("input"), call.tensor_info("weight")
    groups, transposed = call["groups"], call["transposed"]
    data_families = tuple(
        call.constraints.restrict_to_whole_heads(f, (1,), f"`{call.location}` uses heads as a batch dimension")
        for f in data.families
    )
    inputs = call.require_rigid(range(2, len(data.shape)), data_families, SPATIAL)
    batch = tuple(family for family in inputs if not varies_along(family, 1))
    channels = attrs.evolve(data, families=tuple(family for family in inputs if varies_along(family, 1)))
    for family in channels.families:
        if varies_along(family, 0):
            call.constraints.fix(family, f"`{call.location}` uses it as a batch dimension")
    weight_families = call.require_rigid(range(2, len(weight.shape)), weight.families, SPATIAL)
    rows, columns = (1, 0) if transposed else (0, 1)
    out_family = next((family for family in weight_families if varies_along(family, rows)), None)
    in_family = next((family for family in weight_families if varies_along(family, columns)), None)
    if groups == 1:
        _consume_channels(call, channels, in_family, weight, columns)
    else:
        out_family = _tie_groups(call, channels, out_family, in_family, groups, transposed)
        if weight.origin is not None:
            call.analysis.grouped_conv_weights.add(weight.origin)
    result: Families = (
        () if out_family is None else (out_family.reshape((1, -1) + (1,) * (len(call.output_shape) - 2)),)
    )
    if weight.origin is not None:
        call.analysis.weights.setdefault(weight.origin, call.module)
        call.analysis.conv_weights.add(weight.origin)
        if out_family is not None:
            call.analysis.add_role(
                next(f for f in weight_families if varies_along(f, columns if groups > 1 and transposed else rows)),
                "producer",
            )
    result = _add_bias(call, result, "bias", 1)
    call.work = _convolution_macs(call, data, weight, result, channels.families)
    return [batch + result]


def _consume_channels(
    call: OperatorCall, channels: TensorInfo, in_family: Family | None, weight: TensorInfo, columns: int
) -> None:
    """Unify the input channels with the weight's input dimension."""
    if in_family is None:
        for family in channels.families:
            call.constraints.fix(family, f"`{call.location}` reads a single channel")
        return
    call.analysis.add_role(in_family, "consumer")
    vector = _vector_along(channels.families, 1)
    if vector is not None and vector.size == in_family.size:
        call.constraints.unify(vector, in_family.ravel())
    else:
        call.constraints.fix(in_family, f"`{call.location}` reads a tensor of fixed size")


def _tie_groups(
    call: OperatorCall,
    channels: TensorInfo,
    out_family: Family | None,
    in_family: Family | None,
    groups: int,
    transposed: bool,
) -> Family | None:
    """Make the input and output channels of each group one unit, and fix the weight's other dimension."""
    group_family, other_family = (in_family, out_family) if transposed else (out_family, in_family)
    if other_family is not None:
        call.constraints.fix(other_family, f"`{call.location}` uses it in every group")
    vector = _vector_along(channels.families, 1)
    if group_family is None:
        return None
    blocks = call.constraints.merge(group_family.reshape(groups, -1), 1).ravel()
    if vector is not None:
        call.constraints.unify(blocks, call.constraints.merge(vector.reshape(groups, -1), 1).ravel())
    else:
        call.constraints.fix(group_family, f"`{call.location}` reads a tensor of fixed size")
    return blocks.repeat(call.output_shape[1] // groups) if transposed else group_family


def _add_bias(call: OperatorCall, families: Families, name: str, dim: int) -> Families:
    """Unify a bias with the output dimension."""
    if call.arguments.get(name) is None:
        return families
    bias = call.tensor_info(name)
    vector = _vector_along(bias.families, len(bias.shape) - 1)
    if vector is None:
        return families
    call.analysis.add_role(vector, "producer")
    output_vector = _vector_along(families, dim)
    if output_vector is None:
        call.constraints.fix(vector, f"`{call.location}` adds it to a tensor of fixed size")
    else:
        call.constraints.unify(output_vector, vector)
    return families


def _convolution_macs(
    call: OperatorCall, data: TensorInfo, weight: TensorInfo, result: Families, inputs: Families
) -> MacsFormula:
    groups, transposed = call["groups"], call["transposed"]
    spatial = (data.shape if transposed else call.output_shape)[2:]
    factor = call.output_shape[0] * math.prod(spatial) * math.prod(weight.shape[2:])
    rows, columns = call.output_shape[1], data.shape[1]
    if groups > 1:
        factor *= columns // groups
        columns = 1
        inputs = ()
    families = [family.reshape(-1, 1) for family in (_vector_along(result, 1),) if family is not None]
    families += [family.reshape(1, -1) for family in (_vector_along(inputs, 1),) if family is not None]
    return MacsFormula(factor, (rows, columns), tuple(families))


def _matrix_product(call: OperatorCall, left: TensorInfo, right: TensorInfo) -> Families:
    """The matrix product `[…, i, k] @ […, k, j]`, as an element-wise product over `[…, i, k, j]` summed over `k`."""
    rank = len(left.shape) + 1
    i, k, j = rank - 3, rank - 2, rank - 1
    first = TensorInfo((*left.shape, 1), tuple(family[..., None] for family in left.families), origin=left.origin)
    second = TensorInfo(
        (*right.shape[:-2], 1, *right.shape[-2:]),
        tuple(family.reshape(*family.shape[:-2], 1, *family.shape[-2:]) for family in right.families),
        origin=right.origin,
    )
    for value, free in ((first, i), (second, j)):
        if value.origin is not None:
            call.analysis.weights.setdefault(value.origin, call.module)
            for family in value.families:
                call.analysis.add_role(
                    family,
                    "consumer" if varies_along(family, k) else "producer" if varies_along(family, free) else "other",
                )
    product = None
    if first.origin is None and second.origin is None:
        product = MatrixProduct(call.module, frozenset(range(i)), k)
    joined = join_families(call.constraints, [first, second], rank, call.location, product)
    shape = tuple(max(a, b) for a, b in zip(first.shape, second.shape, strict=True))
    call.work = MacsFormula(1, shape, joined)
    result = []
    for family in joined:
        if varies_along(family, k) and len(varying_dims(family)) > 1:
            result.append(_sum_over_heads(call, family, (first, second), product))
        elif not varies_along(family, k):
            result.append(family)
        elif product is not None:
            mark = HeadDims(family, k, call.module, call.location, _families_along((first, second), k))
            call.constraints.mark_product_sum(mark, f"`{call.location}` sums products over it")
    return tuple(family.squeeze(k) for family in result)


def _sum_over_heads(
    call: OperatorCall, family: Family, sides: tuple[TensorInfo, TensorInfo], product: MatrixProduct | None
) -> Family:
    """The family of sums over heads: whole sums (heads) can be removed, or the same dims of all heads."""
    k = len(call.output_shape) - 1
    beyond = set(varying_dims(family)) - {k}
    if product is not None and beyond <= product.batch:
        return call.constraints.sum_over_head_dims(
            HeadDims(family, k, call.module, call.location, _families_along(sides, k))
        )
    if set(call.constraints.head_dim_axes(family)) == {k}:
        return call.constraints.sum_over_head_dims(HeadDims(family, k, call.module, call.location))
    call.constraints.mark_heads(family)
    return call.constraints.merge(family, k)


def _families_along(sides: tuple[TensorInfo, TensorInfo], dim: int) -> tuple[Family, ...]:
    return tuple(family for side in sides for family in side.families if varies_along(family, dim))


def matmul(call: OperatorCall) -> list[Families]:
    """`mm` and `bmm`."""
    names = list(call.arguments)
    return [_matrix_product(call, call.tensor_info(names[0]), call.tensor_info(names[1]))]


def matmul_add(call: OperatorCall) -> list[Families]:
    """`addmm` and `baddbmm`."""
    names = list(call.arguments)
    product = _matrix_product(call, call.tensor_info(names[1]), call.tensor_info(names[2]))
    return [_add_operand(call, product, call.tensor_info(names[0]))]


def _add_operand(call: OperatorCall, product: Families, bias: TensorInfo) -> Families:
    if bias.origin is not None:
        for family in bias.families:
            call.analysis.add_role(family, "producer")
    rank = len(call.output_shape)
    return join_families(call.constraints, [TensorInfo(call.output_shape, product), bias], rank, call.location)


RULES: dict[str, Rule] = {
    "convolution": convolution,
    "mm": matmul,
    "bmm": matmul,
    "addmm": matmul_add,
    "baddbmm": matmul_add,
}
