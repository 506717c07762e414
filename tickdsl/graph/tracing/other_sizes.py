"""Example inputs of other sizes that a network accepts: another batch size, image size or sequence length."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tickdsl.graph.tracing.example_inputs import batch_size

#: The batch sizes of two runs that show what depends on the batch. Their ratio is not one of `_other_sizes`.
BATCHES = (2, 7)

_Place = tuple[int, int]
Inputs = dict[str, Any]


def with_batch(inputs: Inputs, batch: int) -> Inputs:
    """The inputs with another first dimension, if all tensors share it."""
    if batch_size(inputs) is None:
        return inputs
    return _resized(inputs, {(index, 0): batch for index in range(len(_shapes(inputs)))})


def with_other_sizes(inputs: Inputs, accepts: Callable[[Inputs], bool]) -> Inputs:
    """The inputs with every dimension but the first changed that the network lets one change; tries a few sizes each.

    Equal sizes change together, since they may belong together, such as the lengths of tokens and mask. If the network
    accepts it, two of one tensor, such as height and width, become different.
    """
    places_by_size: dict[int, list[_Place]] = {}
    for index, shape in enumerate(_shapes(inputs)):
        for dim, size in enumerate(shape[1:], start=1):
            places_by_size.setdefault(size, []).append((index, dim))
    for size, places in places_by_size.items():
        changed = next(
            (i for n in _other_sizes(size) if accepts(i := _resized(inputs, dict.fromkeys(places, n)))), None
        )
        if changed is None:
            continue
        inputs = changed
        repeated = [place for place in places if place[0] == places[0][0]][1:]
        if repeated:
            current = _shapes(inputs)[repeated[0][0]][repeated[0][1]]
            further = (n for n in _other_sizes(size) if n != current)
            inputs = next((i for n in further if accepts(i := _resized(inputs, dict.fromkeys(repeated, n)))), inputs)
    return inputs


def _other_sizes(size: int) -> Sequence[int]:
    sizes = (size * 2, size + size // 2, size // 2, size - 1)
    return [n for n in dict.fromkeys(sizes) if n > 0 and n != size]


def _tensors(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "shape" in value:
            yield value
        else:
            for item in value["dict"].values():
                yield from _tensors(item)
    elif isinstance(value, list):
        for item in value:
            yield from _tensors(item)


def _all_tensors(inputs: Inputs) -> list[dict[str, Any]]:
    return [tensor for value in (*inputs["args"], *inputs["kwargs"].values()) for tensor in _tensors(value)]


def _shapes(inputs: Inputs) -> list[list[int]]:
    return [list(tensor["shape"]) for tensor in _all_tensors(inputs)]


def _resized(inputs: Inputs, sizes: dict[_Place, int]) -> Inputs:
    result = copy.deepcopy(inputs)
    tensors = _all_tensors(result)
    for (index, dim), size in sizes.items():
        shape = list(tensors[index]["shape"])
        if dim < len(shape):
            shape[dim] = size
        tensors[index]["shape"] = shape
    return result
