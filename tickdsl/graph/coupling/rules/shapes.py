"""Operators that move positions: they are carried out on the atoms themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np

from tickdsl.graph.coupling.analysis import Call, Rule
from tickdsl.graph.coupling.joins import join
from tickdsl.graph.coupling.labels import (
    Families,
    Family,
    Shape,
    Value,
    aligned,
    along,
    reshape,
    squeeze_uniform,
    varying,
)

Move = Callable[[Call, Family, Shape], list[Family]]


def moved(move: Move, argument: str = "self") -> Rule:
    """The rule that applies `move` to every family of the one operand; it gives one array per output."""

    def rule(call: Call) -> list[Families]:
        value = call.value(argument)
        outputs: list[list[Family]] = [[] for _ in call.outputs]
        for family in value.families:
            for place, result in enumerate(move(call, family, value.shape)):
                result = squeeze_uniform(result)
                if varying(result) or value.shape == call.shape:
                    outputs[place].append(result)
                    fewer = call.outputs[place].numel() < math.prod(value.shape)
                    if fewer and 1 < result.size < family.size and len(varying(family)) > 1:
                        call.atoms.pick(result, f"`{call.where}` picks one of its positions")
                else:
                    # One position of many was taken: its atom alone stands for the whole tensor.
                    call.atoms.fix(result, f"`{call.where}` picks one of its positions")
        return [tuple(families) for families in outputs]

    return rule


def _dim(dim: int, rank: int) -> int:
    return dim % rank if rank else 0


def _same(call: Call, family: Family, shape: Shape) -> list[Family]:
    return [family]


def _view(call: Call, family: Family, shape: Shape) -> list[Family]:
    return [reshape(family, shape, call.shape)]


def _as_strided(call: Call, family: Family, shape: Shape) -> list[Family]:
    if call.shape == shape:
        return [family]
    call.atoms.fix(family, f"`{call.where}` strides over it freely")
    return [np.broadcast_to(family.flat[:1].reshape((1,) * len(call.shape)), (1,) * len(call.shape))]


def expand(call: Call) -> list[Families]:
    """`expand`: one position for many. Where nothing else can shrink, any number will do, of all but the batch."""
    value, rank = call.value("self"), len(call.shape)
    families = [aligned(family, rank) for family in value.families]
    before = (1,) * (rank - len(value.shape)) + value.shape
    for dim in range(1, rank):
        if not value.families and before[dim] == 1 < call.shape[dim]:
            atoms = call.atoms.new(call.shape[dim])
            call.atoms.shift(atoms)
            families.append(atoms.reshape([-1 if place == dim else 1 for place in range(rank)]))
    return [tuple(families)]


def _permute(call: Call, family: Family, shape: Shape) -> list[Family]:
    return [family.transpose([_dim(dim, len(shape)) for dim in call["dims"]])]


def _transpose(call: Call, family: Family, shape: Shape) -> list[Family]:
    return [family.swapaxes(_dim(call["dim0"], len(shape)), _dim(call["dim1"], len(shape)))]


def _t(call: Call, family: Family, shape: Shape) -> list[Family]:
    return [family.T]


def _unsqueeze(call: Call, family: Family, shape: Shape) -> list[Family]:
    return [np.expand_dims(family, _dim(call["dim"], len(shape) + 1))]


def _squeeze(call: Call, family: Family, shape: Shape) -> list[Family]:
    asked: Any = call.arguments.get("dim", range(len(shape)))
    dims = {_dim(dim, len(shape)) for dim in ([asked] if isinstance(asked, int) else asked)}
    return [family.squeeze(tuple(dim for dim in dims if shape[dim] == 1))]


def _slice(call: Call, family: Family, shape: Shape) -> list[Family]:
    dim = _dim(call["dim"], len(shape))
    if not along(family, dim):
        return [family]
    picked = slice(call["start"], call["end"], call["step"])
    return [family[(slice(None),) * dim + (picked,)]]


def _taken(family: Family, place: int, dim: int) -> Family:
    """One position along a dimension, which goes."""
    return family.take([place if along(family, dim) else 0], axis=dim).squeeze(dim)


def _select(call: Call, family: Family, shape: Shape) -> list[Family]:
    dim = _dim(call["dim"], len(shape))
    return [_taken(family, call["index"], dim)]


def _unbind(call: Call, family: Family, shape: Shape) -> list[Family]:
    dim = _dim(call["dim"], len(shape))
    return [_taken(family, place, dim) for place in range(shape[dim])]


def _split(call: Call, family: Family, shape: Shape) -> list[Family]:
    dim = _dim(call["dim"], len(shape))
    if not along(family, dim):
        return [family for _ in call.outputs]
    ends = np.cumsum([output.shape[dim] for output in call.outputs])[:-1]
    return np.split(family, ends.tolist(), axis=dim)


def _glu(call: Call, family: Family, shape: Shape) -> list[Family]:
    """One half gates the other: what stands at one position of both is one."""
    dim = _dim(call["dim"], len(shape))
    if not along(family, dim):
        return [family]
    value, gate = np.split(family, 2, axis=dim)
    call.atoms.unify(value, gate)
    return [value]


def _flip(call: Call, family: Family, shape: Shape) -> list[Family]:
    return [np.flip(family, tuple(_dim(dim, len(shape)) for dim in call["dims"]))]


def _roll(call: Call, family: Family, shape: Shape) -> list[Family]:
    dims = [_dim(dim, len(shape)) for dim in call["dims"]]
    if not dims:
        return [reshape(np.roll(reshape(family, shape, (int(np.prod(shape)),)), call["shifts"][0]), call.shape, shape)]
    return [np.roll(family, call["shifts"], dims)]


def _repeat(call: Call, family: Family, shape: Shape) -> list[Family]:
    repeats = call["repeats"]
    family = family.reshape((1,) * (len(repeats) - family.ndim) + family.shape)
    return [np.tile(family, [n if family.shape[dim] > 1 else 1 for dim, n in enumerate(repeats)])]


def _pixel_shuffle(call: Call, family: Family, shape: Shape) -> list[Family]:
    factor, channel = call["upscale_factor"], len(shape) - 3
    if any(along(family, dim) for dim in (channel + 1, channel + 2)):
        call.atoms.fix(family, f"`{call.where}` mixes its positions")
    if not along(family, channel):
        return [family]
    split = family.reshape(*family.shape[:channel], -1, factor * factor, *family.shape[channel + 1 :])
    return [call.atoms.merge(split, channel + 1).squeeze(channel + 1)]


def _pixel_unshuffle(call: Call, family: Family, shape: Shape) -> list[Family]:
    factor, channel = call["downscale_factor"], len(shape) - 3
    if any(along(family, dim) for dim in (channel + 1, channel + 2)):
        call.atoms.fix(family, f"`{call.where}` mixes its positions")
    return [np.repeat(family, factor * factor, axis=channel) if along(family, channel) else family]


def _channel_shuffle(call: Call, family: Family, shape: Shape) -> list[Family]:
    if not along(family, 1):
        return [family]
    groups = call["groups"]
    split = family.reshape(family.shape[0], groups, -1, *family.shape[2:])
    call.atoms.rectangle(split)
    return [split.swapaxes(1, 2).reshape(family.shape)]


def concatenate(call: Call) -> list[Families]:
    """`cat`: along the dimension, families follow each other; along the others they are one."""
    values = [call.analysis.value(tensor) for tensor in call["tensors"]]
    rank = len(call.shape)
    dim = _dim(call.arguments.get("dim", 0), rank)
    values = [value for value in values if len(value.shape) == rank]
    alike = _alike(values, dim)
    if not alike:
        values = [_whole(call, value, dim) for value in values]
    families = list(join(call.atoms, [_without(value, dim) for value in values], rank, call.where))
    if alike or any(along(family, dim) for value in values for family in value.families):
        families.append(np.concatenate(alike or [_along(call, value, dim) for value in values], axis=dim))
    return [tuple(families)]


def _alike(values: Sequence[Value], dim: int) -> list[Family]:
    """The one family of every value along the dimension, if these vary along the same other dimensions too."""
    found = [[family for family in value.families if along(family, dim)] for value in values]
    others = {tuple(np.delete(family.shape, dim)) for families in found for family in families}
    return [families[0] for families in found] if len(others) == 1 and all(len(f) == 1 for f in found) else []


def _whole(call: Call, value: Value, dim: int) -> Value:
    """The value with whole heads in place of their dims, where it has these along the dimension."""
    families = tuple(
        call.atoms.whole_heads(family, (dim,), f"`{call.where}` puts the dims of heads beside others")
        for family in value.families
    )
    return attrs.evolve(value, families=families)


def _without(value: Value, dim: int) -> Value:
    """The value as if it had size 1 along a dimension."""
    kept = tuple(family for family in value.families if not along(family, dim))
    shape = tuple(1 if place == dim else size for place, size in enumerate(value.shape))
    return attrs.evolve(value, families=kept, shape=shape)


def _along(call: Call, value: Value, dim: int) -> Family:
    """The one family along the dimension; rigid positions get fixed atoms of their own."""
    size = value.shape[dim]
    found = [family for family in value.families if along(family, dim)]
    if not found:
        atoms = call.atoms.new(size)
        call.atoms.fix(atoms, f"`{call.where}` puts it beside a value that cannot shrink")
        return atoms.reshape([size if place == dim else 1 for place in range(len(value.shape))])
    return call.atoms.merge_but(found[0], (dim,), "both")


def stack(call: Call) -> list[Families]:
    """`stack`: what stands at one position is one."""
    values = [call.analysis.value(tensor) for tensor in call["tensors"]]
    dim = _dim(call.arguments.get("dim", 0), len(call.shape))
    families = join(call.atoms, values, len(call.shape) - 1, call.where)
    return [tuple(np.expand_dims(family, dim) for family in families)]


def _pad(call: Call, family: Family, shape: Shape) -> list[Family]:
    """`constant_pad_nd`: what is added gets atoms of its own; along rigid dimensions anything goes."""
    amounts = call["pad"]
    for place in range(len(amounts) // 2):
        dim = len(shape) - 1 - place
        before, after = amounts[2 * place : 2 * place + 2]
        if not (before or after):
            continue
        family = call.atoms.whole_heads(family, (dim,), f"`{call.where}` puts the dims of heads beside others")
        if not along(family, dim):
            continue
        family = call.atoms.merge_but(family, (dim,), "both")
        inner = family.ravel()[max(-before, 0) : shape[dim] - max(-after, 0)]
        parts = [call.atoms.new(max(before, 0)), inner, call.atoms.new(max(after, 0))]
        family = np.concatenate(parts).reshape([-1 if other == dim else 1 for other in range(len(shape))])
    return [family]


VIEWS = frozenset(
    (
        "view", "_unsafe_view", "_reshape_alias", "as_strided", "alias", "detach", "lift_fresh", "expand", "permute",
        "transpose", "t", "unsqueeze", "squeeze", "slice", "select", "unbind", "split", "split_with_sizes", "unfold",
    )
)  # fmt: skip


RULES: dict[str, Rule] = {
    **{name: moved(_same) for name in ("alias", "detach", "clone", "contiguous", "_to_copy", "lift_fresh", "to")},
    **{name: moved(_view) for name in ("view", "_unsafe_view", "reshape", "_reshape_alias")},
    "as_strided": moved(_as_strided),
    "expand": expand,
    "permute": moved(_permute),
    "transpose": moved(_transpose),
    "t": moved(_t),
    "unsqueeze": moved(_unsqueeze),
    "squeeze": moved(_squeeze),
    "slice": moved(_slice),
    "select": moved(_select),
    "unbind": moved(_unbind),
    **{name: moved(_split) for name in ("split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes")},
    "glu": moved(_glu),
    "flip": moved(_flip),
    "roll": moved(_roll),
    "repeat": moved(_repeat),
    "pixel_shuffle": moved(_pixel_shuffle),
    "pixel_unshuffle": moved(_pixel_unshuffle),
    "channel_shuffle": moved(_channel_shuffle, "self"),
    "native_channel_shuffle": moved(_channel_shuffle),
    "cat": concatenate,
    "stack": stack,
    "constant_pad_nd": moved(_pad),
}
