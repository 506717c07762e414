"""Rules for shape operators, which are applied to the atom arrays themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np

from tickdsl.graph.coupling.analysis import OperatorCall, Rule
from tickdsl.graph.coupling.families import (
    Families,
    Family,
    Shape,
    TensorInfo,
    expand_rank,
    reshape_family,
    squeeze_uniform,
    varies_along,
    varying_dims,
)
from tickdsl.graph.coupling.joins import join_families

FamilyTransform = Callable[[OperatorCall, Family, Shape], list[Family]]


def per_family_rule(transform: FamilyTransform, argument: str = "self") -> Rule:
    """Build a rule that applies `transform` to each family of one operand; it returns one array per output."""

    def rule(call: OperatorCall) -> list[Families]:
        value = call.tensor_info(argument)
        outputs: list[list[Family]] = [[] for _ in call.outputs]
        for family in value.families:
            for index, result in enumerate(transform(call, family, value.shape)):
                result = squeeze_uniform(result)
                if varying_dims(result) or value.shape == call.output_shape:
                    outputs[index].append(result)
                    is_partial = call.outputs[index].numel() < math.prod(value.shape)
                    if is_partial and 1 < result.size < family.size and len(varying_dims(family)) > 1:
                        call.constraints.fix_if_single(result, f"`{call.location}` selects one of its positions")
                else:
                    # One position was selected, so its atom carries the whole tensor.
                    call.constraints.fix(result, f"`{call.location}` selects one of its positions")
        return [tuple(families) for families in outputs]

    return rule


def _dim(dim: int, rank: int) -> int:
    return dim % rank if rank else 0


def _identity(call: OperatorCall, family: Family, shape: Shape) -> list[Family]:
    return [family]


def _view(call: OperatorCall, family: Family, shape: Shape) -> list[Family]:
    return [reshape_family(family, shape, call.output_shape)]


def _as_strided(call: OperatorCall, family: Family, shape: Shape) -> list[Family]:
    if call.output_shape == shape:
        return [family]
    call.constraints.fix(family, f"`{call.location}` uses custom strides")
    return [np.broadcast_to(family.flat[:1].reshape((1,) * len(call.output_shape)), (1,) * len(call.output_shape))]


def expand(call: OperatorCall) -> list[Families]:
    """`expand` repeats one position: if the operand is rigid, any size works along all dimensions but the first."""
    value, rank = call.tensor_info("self"), len(call.output_shape)
    families = [expand_rank(family, rank) for family in value.families]
    before = (1,) * (rank - len(value.shape)) + value.shape
    for dim in range(1, rank):
        if not value.families and before[dim] == 1 < call.output_shape[dim]:
            atoms = call.constraints.new_atoms(call.output_shape[dim])
            call.constraints.mark_nonzero(atoms)
            families.append(atoms.reshape([-1 if index == dim else 1 for index in range(rank)]))
    return [tuple(families)]


def expanded_dims(call: OperatorCall, families: Families) -> frozenset[int]:
    """The dimensions along which `expand` repeats one position, and which have no family."""
    if call.op != "expand":
        return frozenset()
    shape = call.tensor_info("self").shape
    before = (1,) * (len(call.output_shape) - len(shape)) + shape
    return frozenset(
        dim
        for dim, size in enumerate(call.output_shape)
        if before[dim] == 1 < size and not any(varies_along(family, dim) for family in families)
    )


def _permute(call: OperatorCall, family: Family, shape: Shape) -> list[Family]:
    return [family.transpose([_dim(dim, len(shape)) for dim in call["dims"]])]


def _transpose(call: OperatorCall, family: Family, shape: Shape) -> list[Family]:
    return [family.swapaxes(_dim(call["dim0"], len(shape)), _dim(call["dim1"], len(shape)))]


def _t(call: OperatorCall, family: Family, shape: Shape) -> list[Family]:
    return [family.T]


def _unsqueeze(call: OperatorCall, family: Family, shape: Shape) -> list[Family]:
    return [np.expand_dims(family, _dim(call["dim"], len(shape) + 1))]


def _squeeze(call: OperatorCall, family: Family, shape: Shape) -> list[Family]:
    dim_argument: Any = call.arguments.get("dim", range(len(shape)))
    dims = {_dim(dim, len(shape)) for dim in ([dim_argument] if isinstance(dim_argument, int) else dim_argument)}
    return [family.squeeze(tuple(dim for dim in dims if shape[dim] == 1))]


def _slice(call: OperatorCall, family: Family, shape: Shape) -> list[Family]:
    dim = _dim(call["dim"], len(shape))
    if not varies_along(family, dim):
        return [family]
    picked = slice(call["start"], call["end"], call["step"])
    return [family[(slice(None),) * dim + (picked,)]]


def _take_position(family: Family, index: int, dim: int) -> Family:
    """One position along a dimension, with that dimension dropped."""
    return family.take([index if varies_along(family, dim) else 0], axis=dim).squeeze(dim)


def _select(call: OperatorCall, family: Family, shape: Shape) -> list[Family]:
    dim = _dim(call["dim"], len(shape))
    return [_take_position(family, call["index"], dim)]


def _unbind(call: OperatorCall, family: Family, shape: Shape) -> list[Family]:
    dim = _dim(call["dim"], len(shape))
    return [_take_position(family, index, dim) for index in range(shape[dim])]


def _split(call: OperatorCall, family: Family, shape: Shape) -> list[Family]:
    dim = _dim(call["dim"], len(shape))
    if not varies_along(family, dim):
        return [family for _ in call.outputs]
    ends = np.cumsum([output.shape[dim] for output in call.outputs])[:-1]
    return np.split(family, ends.tolist(), axis=dim)


def _glu(call: OperatorCall, family: Family, shape: Shape) -> list[Family]:
    """One half gates the other: the atoms at the same position of both are unified."""
    dim = _dim(call["dim"], len(shape))
    if not varies_along(family, dim):
        return [family]
    value, gate = np.split(family, 2, axis=dim)
    call.constraints.unify(value, gate)
    return [value]


def _flip(call: OperatorCall, family: Family, shape: Shape) -> list[Family]:
    return [np.flip(family, tuple(_dim(dim, len(shape)) for dim in call["dims"]))]


def _roll(call: OperatorCall, family: Family, shape: Shape) -> list[Family]:
    dims = [_dim(dim, len(shape)) for dim in call["dims"]]
    if not dims:
        return [
            reshape_family(
                np.roll(reshape_family(family, shape, (int(np.prod(shape)),)), call["shifts"][0]),
                call.output_shape,
                shape,
            )
        ]
    return [np.roll(family, call["shifts"], dims)]


def _repeat(call: OperatorCall, family: Family, shape: Shape) -> list[Family]:
    repeats = call["repeats"]
    family = family.reshape((1,) * (len(repeats) - family.ndim) + family.shape)
    return [np.tile(family, [n if family.shape[dim] > 1 else 1 for dim, n in enumerate(repeats)])]


def _pixel_shuffle(call: OperatorCall, family: Family, shape: Shape) -> list[Family]:
    factor, channel = call["upscale_factor"], len(shape) - 3
    if any(varies_along(family, dim) for dim in (channel + 1, channel + 2)):
        call.constraints.fix(family, f"`{call.location}` rearranges its positions")
    if not varies_along(family, channel):
        return [family]
    split = family.reshape(*family.shape[:channel], -1, factor * factor, *family.shape[channel + 1 :])
    return [call.constraints.merge(split, channel + 1).squeeze(channel + 1)]


def _pixel_unshuffle(call: OperatorCall, family: Family, shape: Shape) -> list[Family]:
    factor, channel = call["downscale_factor"], len(shape) - 3
    if any(varies_along(family, dim) for dim in (channel + 1, channel + 2)):
        call.constraints.fix(family, f"`{call.location}` rearranges its positions")
    return [np.repeat(family, factor * factor, axis=channel) if varies_along(family, channel) else family]


def _channel_shuffle(call: OperatorCall, family: Family, shape: Shape) -> list[Family]:
    if not varies_along(family, 1):
        return [family]
    groups = call["groups"]
    split = family.reshape(family.shape[0], groups, -1, *family.shape[2:])
    call.constraints.require_rectangle(split)
    return [split.swapaxes(1, 2).reshape(family.shape)]


def concatenate(call: OperatorCall) -> list[Families]:
    """`cat`: families are concatenated along the dimension, and unified along the others."""
    values = [call.analysis.tensor_info(tensor) for tensor in call["tensors"]]
    rank = len(call.output_shape)
    dim = _dim(call.arguments.get("dim", 0), rank)
    values = [value for value in values if len(value.shape) == rank]
    alike = _matching_families(values, dim)
    if not alike:
        values = [_restrict_to_whole_heads(call, value, dim) for value in values]
    families = list(
        join_families(call.constraints, [_without_dim(value, dim) for value in values], rank, call.location)
    )
    if alike or any(varies_along(family, dim) for value in values for family in value.families):
        families.append(np.concatenate(alike or [_family_along(call, value, dim) for value in values], axis=dim))
    return [tuple(families)]


def _matching_families(values: Sequence[TensorInfo], dim: int) -> list[Family]:
    """The single family of each value along the dimension, if all have the same sizes along the others; [] if not."""
    families_by_value = [[family for family in value.families if varies_along(family, dim)] for value in values]
    other_sizes = {tuple(np.delete(family.shape, dim)) for families in families_by_value for family in families}
    return (
        [families[0] for families in families_by_value]
        if len(other_sizes) == 1 and all(len(f) == 1 for f in families_by_value)
        else []
    )


def _restrict_to_whole_heads(call: OperatorCall, value: TensorInfo, dim: int) -> TensorInfo:
    """The value with the dims of heads merged into whole heads, if it has such dims along the dimension."""
    families = tuple(
        call.constraints.restrict_to_whole_heads(
            family, (dim,), f"`{call.location}` concatenates the dims of its heads with others"
        )
        for family in value.families
    )
    return attrs.evolve(value, families=families)


def _without_dim(value: TensorInfo, dim: int) -> TensorInfo:
    """The value without the families along a dimension, which gets size 1."""
    kept = tuple(family for family in value.families if not varies_along(family, dim))
    shape = tuple(1 if index == dim else size for index, size in enumerate(value.shape))
    return attrs.evolve(value, families=kept, shape=shape)


def _family_along(call: OperatorCall, value: TensorInfo, dim: int) -> Family:
    """The family along the dimension; a rigid dimension gets new, fixed atoms."""
    size = value.shape[dim]
    candidates = [family for family in value.families if varies_along(family, dim)]
    if not candidates:
        atoms = call.constraints.new_atoms(size)
        call.constraints.fix(atoms, f"`{call.location}` concatenates it with a tensor of fixed size")
        return atoms.reshape([size if index == dim else 1 for index in range(len(value.shape))])
    return call.constraints.merge_except(candidates[0], (dim,), "both")


def stack(call: OperatorCall) -> list[Families]:
    """`stack`: atoms at the same position are unified."""
    values = [call.analysis.tensor_info(tensor) for tensor in call["tensors"]]
    dim = _dim(call.arguments.get("dim", 0), len(call.output_shape))
    families = join_families(call.constraints, values, len(call.output_shape) - 1, call.location)
    return [tuple(np.expand_dims(family, dim) for family in families)]


def _pad(call: OperatorCall, family: Family, shape: Shape) -> list[Family]:
    """`constant_pad_nd`: padding gets new atoms; rigid dimensions need none."""
    amounts = call["pad"]
    for index in range(len(amounts) // 2):
        dim = len(shape) - 1 - index
        before, after = amounts[2 * index : 2 * index + 2]
        if not (before or after):
            continue
        family = call.constraints.restrict_to_whole_heads(
            family, (dim,), f"`{call.location}` pads the dims of its heads"
        )
        if not varies_along(family, dim):
            continue
        family = call.constraints.merge_except(family, (dim,), "both")
        inner = family.ravel()[max(-before, 0) : shape[dim] - max(-after, 0)]
        parts = [call.constraints.new_atoms(max(before, 0)), inner, call.constraints.new_atoms(max(after, 0))]
        family = np.concatenate(parts).reshape([-1 if d == dim else 1 for d in range(len(shape))])
    return [family]


VIEWS = frozenset(
    (
        "view", "_unsafe_view", "_reshape_alias", "as_strided", "alias", "detach", "lift_fresh", "expand", "permute",
        "transpose", "t", "unsqueeze", "squeeze", "slice", "select", "unbind", "split", "split_with_sizes", "unfold",
        "view_as_real", "view_as_complex",
    )
)  # fmt: skip


RULES: dict[str, Rule] = {
    **{
        name: per_family_rule(_identity)
        for name in ("alias", "detach", "clone", "contiguous", "_to_copy", "lift_fresh", "to")
    },
    **{name: per_family_rule(_view) for name in ("view", "_unsafe_view", "reshape", "_reshape_alias")},
    "as_strided": per_family_rule(_as_strided),
    "expand": expand,
    "permute": per_family_rule(_permute),
    "transpose": per_family_rule(_transpose),
    "t": per_family_rule(_t),
    "unsqueeze": per_family_rule(_unsqueeze),
    "squeeze": per_family_rule(_squeeze),
    "slice": per_family_rule(_slice),
    "select": per_family_rule(_select),
    "unbind": per_family_rule(_unbind),
    **{
        name: per_family_rule(_split)
        for name in ("split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes")
    },
    "glu": per_family_rule(_glu),
    "flip": per_family_rule(_flip),
    "roll": per_family_rule(_roll),
    "repeat": per_family_rule(_repeat),
    "pixel_shuffle": per_family_rule(_pixel_shuffle),
    "pixel_unshuffle": per_family_rule(_pixel_unshuffle),
    "channel_shuffle": per_family_rule(_channel_shuffle, "self"),
    "native_channel_shuffle": per_family_rule(_channel_shuffle),
    "cat": concatenate,
    "stack": stack,
    "constant_pad_nd": per_family_rule(_pad),
}
