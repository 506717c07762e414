"""Operators that multiply and sum: convolutions and matrix products."""

from __future__ import annotations

import math

import attrs

from tickdsl.graph.coupling.analysis import Call, Rule, Work
from tickdsl.graph.coupling.atoms import HeadDims
from tickdsl.graph.coupling.joins import Product, join
from tickdsl.graph.coupling.labels import Families, Family, Value, along, varying
from tickdsl.graph.coupling.rules.spatial import SLIDES


def _vector(families: Families, dim: int) -> Family | None:
    """The family along a dimension as a vector."""
    for family in families:
        if along(family, dim):
            return family.ravel()
    return None


def convolution(call: Call) -> list[Families]:
    """Convolutions and transposed ones; of grouped ones whole groups go."""
    data, weight = call.value("input"), call.value("weight")
    groups, transposed = call["groups"], call["transposed"]
    whole = tuple(call.atoms.whole_heads(f, (1,), f"`{call.where}` takes heads for a batch") for f in data.families)
    inputs = call.apart_from(range(2, len(data.shape)), whole, SLIDES)
    batch = tuple(family for family in inputs if not along(family, 1))
    channels = attrs.evolve(data, families=tuple(family for family in inputs if along(family, 1)))
    for family in channels.families:
        if along(family, 0):
            call.atoms.fix(family, f"`{call.where}` takes it for a batch")
    known = call.apart_from(range(2, len(weight.shape)), weight.families, SLIDES)
    rows, columns = (1, 0) if transposed else (0, 1)
    out = next((family for family in known if along(family, rows)), None)
    into = next((family for family in known if along(family, columns)), None)
    if groups == 1:
        _read(call, channels, into, weight, columns)
    else:
        out = _grouped(call, channels, out, into, groups, transposed)
        if weight.origin is not None:
            call.analysis.followers.add(weight.origin)
    result: Families = () if out is None else (out.reshape((1, -1) + (1,) * (len(call.shape) - 2)),)
    if weight.origin is not None:
        call.analysis.weights.setdefault(weight.origin, call.module)
        call.analysis.convolutions.add(weight.origin)
        if out is not None:
            call.analysis.say(
                next(f for f in known if along(f, columns if groups > 1 and transposed else rows)), "producer"
            )
    result = _bias(call, result, "bias", 1)
    call.work = _convolution_work(call, data, weight, result, channels.families)
    return [batch + result]


def _read(call: Call, channels: Value, into: Family | None, weight: Value, columns: int) -> None:
    """The input channels meet the weight's input dimension."""
    if into is None:
        for family in channels.families:
            call.atoms.fix(family, f"`{call.where}` reads one channel only")
        return
    call.analysis.say(into, "consumer")
    vector = _vector(channels.families, 1)
    if vector is not None and vector.size == into.size:
        call.atoms.unify(vector, into.ravel())
    else:
        call.atoms.fix(into, f"`{call.where}` reads a value that cannot shrink")


def _grouped(
    call: Call, channels: Value, out: Family | None, into: Family | None, groups: int, transposed: bool
) -> Family | None:
    """Whole groups go: input and output channels of one are one unit. The weight's other dimension stays."""
    first, second = (into, out) if transposed else (out, into)
    if second is not None:
        call.atoms.fix(second, f"`{call.where}` needs it in every group")
    vector = _vector(channels.families, 1)
    if first is None:
        return None
    blocks = call.atoms.merge(first.reshape(groups, -1), 1).ravel()
    if vector is not None:
        call.atoms.unify(blocks, call.atoms.merge(vector.reshape(groups, -1), 1).ravel())
    else:
        call.atoms.fix(first, f"`{call.where}` reads a value that cannot shrink")
    return blocks.repeat(call.shape[1] // groups) if transposed else first


def _bias(call: Call, families: Families, name: str, dim: int) -> Families:
    """A bias is added along the output dimension."""
    if call.arguments.get(name) is None:
        return families
    bias = call.value(name)
    vector = _vector(bias.families, len(bias.shape) - 1)
    if vector is None:
        return families
    call.analysis.say(vector, "producer")
    found = _vector(families, dim)
    if found is None:
        call.atoms.fix(vector, f"`{call.where}` adds it to a value that cannot shrink")
    else:
        call.atoms.unify(found, vector)
    return families


def _convolution_work(call: Call, data: Value, weight: Value, result: Families, inputs: Families) -> Work:
    groups, transposed = call["groups"], call["transposed"]
    spatial = (data.shape if transposed else call.shape)[2:]
    factor = call.shape[0] * math.prod(spatial) * math.prod(weight.shape[2:])
    rows, columns = call.shape[1], data.shape[1]
    if groups > 1:
        factor *= columns // groups
        columns = 1
        inputs = ()
    families = [family.reshape(-1, 1) for family in (_vector(result, 1),) if family is not None]
    families += [family.reshape(1, -1) for family in (_vector(inputs, 1),) if family is not None]
    return Work(factor, (rows, columns), tuple(families))


def _product(call: Call, left: Value, right: Value) -> Families:
    """Matrix products `[…, i, k] @ […, k, j]`, as an element-wise product over `[…, i, k, j]` summed over `k`."""
    rank = len(left.shape) + 1
    i, k, j = rank - 3, rank - 2, rank - 1
    first = Value((*left.shape, 1), tuple(family[..., None] for family in left.families), origin=left.origin)
    second = Value(
        (*right.shape[:-2], 1, *right.shape[-2:]),
        tuple(family.reshape(*family.shape[:-2], 1, *family.shape[-2:]) for family in right.families),
        origin=right.origin,
    )
    for value, free in ((first, i), (second, j)):
        if value.origin is not None:
            call.analysis.weights.setdefault(value.origin, call.module)
            for family in value.families:
                call.analysis.say(
                    family, "consumer" if along(family, k) else "producer" if along(family, free) else "other"
                )
    product = None
    if first.origin is None and second.origin is None:
        product = Product(call.module, frozenset(range(i)), k)
    joined = join(call.atoms, [first, second], rank, call.where, product)
    shape = tuple(max(a, b) for a, b in zip(first.shape, second.shape, strict=True))
    call.work = Work(1, shape, joined)
    result = []
    for family in joined:
        if along(family, k) and len(varying(family)) > 1:
            result.append(_sum_of_heads(call, family, (first, second), product))
        elif not along(family, k):
            result.append(family)
        elif product is not None:
            mark = HeadDims(family, k, call.module, call.where, _factors((first, second), k))
            call.atoms.sum_of_products(mark, f"`{call.where}` multiplies and sums the channels that are left")
    return tuple(family.squeeze(k) for family in result)


def _sum_of_heads(call: Call, family: Family, sides: tuple[Value, Value], product: Product | None) -> Family:
    """Only the whole of a sum can go, an attention head, or the same dims of every head."""
    k = len(call.shape) - 1
    beyond = set(varying(family)) - {k}
    if product is not None and beyond <= product.batch:
        return call.atoms.sum_of_heads(HeadDims(family, k, call.module, call.where, _factors(sides, k)))
    if set(call.atoms.dims_of(family)) == {k}:
        return call.atoms.sum_of_heads(HeadDims(family, k, call.module, call.where))
    call.atoms.mark_heads(family)
    return call.atoms.merge(family, k)


def _factors(sides: tuple[Value, Value], dim: int) -> tuple[Family, ...]:
    return tuple(family for side in sides for family in side.families if along(family, dim))


def multiply(call: Call) -> list[Families]:
    """`mm` and `bmm`."""
    names = list(call.arguments)
    return [_product(call, call.value(names[0]), call.value(names[1]))]


def multiply_add(call: Call) -> list[Families]:
    """`addmm` and `baddbmm`."""
    names = list(call.arguments)
    product = _product(call, call.value(names[1]), call.value(names[2]))
    return [_added(call, product, call.value(names[0]))]


def _added(call: Call, product: Families, bias: Value) -> Families:
    if bias.origin is not None:
        for family in bias.families:
            call.analysis.say(family, "producer")
    rank = len(call.shape)
    return join(call.atoms, [Value(call.shape, product), bias], rank, call.where)


RULES: dict[str, Rule] = {
    "convolution": convolution,
    "mm": multiply,
    "bmm": multiply,
    "addmm": multiply_add,
    "baddbmm": multiply_add,
}
