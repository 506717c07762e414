"""Batches for criteria from a loader of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from tickdsl.errors import TickdslError
from tickdsl.pruning.criteria import Batch, Sample


class LoaderBatches(Sequence[Batch]):
    """The first batches of a loader; they are on the device only while they are used."""

    def __init__(self, batches: Sequence[tuple[Any, Any]], device: torch.device) -> None:
        self._batches, self._device = batches, device

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return LoaderBatches(self._batches[index], self._device)
        return tree_map(
            lambda value: value.to(self._device) if isinstance(value, Tensor) else value, self._batches[index]
        )

    def __iter__(self) -> Iterator[Batch]:
        return (self[index] for index in range(len(self)))


def sampler(data: Iterable[Any] | None, classes: int, device: torch.device) -> Callable[[Sample], Sequence[Batch]]:
    """A function that takes a criterion's sample from a loader: its first images, the same ones at each call.

    A sample per class is taken as so many images for each of `classes`, whatever their labels. The loader is read once,
    up to the largest sample. Raises TickdslError if there is no loader, or it does not return pairs of inputs and
    targets.
    """
    if data is not None and not isinstance(data, Iterable) and not hasattr(data, "__getitem__"):
        raise TickdslError(
            f"`data` cannot be of type {type(data).__name__}", "pass a loader, or a list of pairs (inputs, targets)"
        )
    cached: list[tuple[Any, Any]] = []
    remaining = iter(data) if data is not None else iter(())

    def draw(sample: Sample) -> Sequence[Batch]:
        wanted = sample.total if sample.total is not None else (sample.per_class or 1) * classes
        batches: list[tuple[Any, Any]] = []
        count = 0
        for number in range(len(cached) + 1_000_000_000):
            if count >= wanted:
                break
            if number == len(cached):
                batch = next(remaining, None)
                if batch is None:
                    break
                cached.append(_checked(batch))
            inputs, targets = cached[number]
            size = _length(inputs)
            batches.append((inputs, targets) if count + size <= wanted else _first((inputs, targets), wanted - count))
            count += size
        if not batches:
            raise TickdslError("the loader in `data` has no batches", "pass a loader of (inputs, targets)")
        return LoaderBatches(batches, device)

    return draw


def _checked(batch: Any) -> tuple[Any, Any]:
    if not isinstance(batch, list | tuple) or len(batch) != 2 or not _tensors(batch[0]):
        found = (
            f"a {type(batch).__name__} of {len(batch)}"
            if isinstance(batch, list | tuple | dict)
            else f"an item of type {type(batch).__name__}"
        )
        raise TickdslError(
            f"`data` must return pairs (inputs, targets), and returned {found}",
            "wrap the loader: `[(inputs, targets) for … in loader]`",
        )
    inputs, targets = batch
    return (tuple(inputs) if isinstance(inputs, list) else inputs), targets


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor) and leaf.dim() > 0]


def _length(inputs: Any) -> int:
    return len(_tensors(inputs)[0])


def _first(batch: tuple[Any, Any], count: int) -> tuple[Any, Any]:
    """The first examples of a batch; values without a batch dimension stay as they are."""
    size = _length(batch[0])

    def cut(value: Any) -> Any:
        return value[:count] if isinstance(value, Tensor) and value.dim() > 0 and len(value) == size else value

    first: tuple[Any, Any] = tree_map(cut, batch)
    return first
