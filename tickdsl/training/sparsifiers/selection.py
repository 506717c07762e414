"""The lowest of some scores, on the device of the scores.

The rules are those of a prune (`tickdsl.pruning.selection`): among ties within a tensor, lower positions come first;
tensors that are ranked together lose equal shares of the scores that tie at the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tickdsl.equal_shares import equal_shares

#: Above every score: what is out of reach.
UNREACHABLE = 3e38
#: From so many scores on, a sample of about `_SAMPLE` of them bounds the lowest.
_MANY, _SAMPLE = 16_384, 2_048


def lowest(scores: Tensor, count: int) -> Tensor:
    """Where the `count` lowest of some scores [N] are: bool [N]."""
    return lowest_of_all([scores], count)[0]


@torch.no_grad()
def lowest_of_all(scores: Sequence[Tensor], count: int) -> list[Tensor]:
    """Where the `count` lowest scores of all tensors together are: bool, by tensor. Scores are flat and not NaN.

    It partitions instead of sorting, and waits for the device.
    """
    total = sum(len(score) for score in scores)
    if count <= 0 or count >= total:
        return [torch.full_like(score, count > 0, dtype=torch.bool) for score in scores]
    threshold = _nth_lowest(scores[0] if len(scores) == 1 else torch.cat(list(scores)), count)
    chosen = [_where(score, threshold, lambda values, bound: values <= bound) for score in scores]
    more = sum(number_of(taken) for taken in chosen) - count
    if more:
        ties = [positions(_where(score, threshold, lambda values, bound: values == bound)) for score in scores]
        sizes = [len(tied) for tied in ties]
        for taken, tied, number in zip(chosen, ties, equal_shares(sizes, sum(sizes) - more), strict=True):
            taken[tied[number:]] = False  # the first of the scores that tie at the threshold are taken
    return chosen


# On a CPU, numpy partitions and compares many times as fast as torch.


def is_above(tensor: Tensor, bound: Any) -> Tensor:
    """Where a tensor is above a bound: bool."""
    return _where(tensor, bound, lambda values, limit: values > limit)


def _where(tensor: Tensor, bound: Any, compare: Callable[[Any, Any], Any]) -> Tensor:
    """A comparison with a bound, as numpy or torch makes it: bool."""
    found: Tensor = (
        torch.from_numpy(compare(tensor.numpy(), bound)) if tensor.device.type == "cpu" else compare(tensor, bound)
    )
    return found


def number_of(chosen: Tensor) -> int:
    """How many entries of a bool or float tensor are not 0. Waits for the device."""
    if chosen.device.type != "cpu":
        return int(torch.count_nonzero(chosen))
    values = chosen.numpy()
    return int(np.count_nonzero(values if values.dtype == np.bool_ else values != 0))


def _nth_lowest(scores: Tensor, n: int) -> Any:
    """The nth lowest score, counted from 1."""
    if scores.device.type == "cpu":
        values = _with_lowest(scores.numpy(), n)
        return np.partition(values, n - 1)[n - 1]
    return scores.kthvalue(n).values  # a tensor, so that nothing waits for the device


def _with_lowest(values: Any, n: int) -> Any:
    """An array with the `n` lowest of many values and few others, if a sample tells where they end; else `values`.

    Comparing all values with a bound takes a fifth of the time of partitioning them.
    """
    if len(values) < _MANY or n > len(values) // 4:
        return values
    sample = values[:: len(values) // _SAMPLE]
    expected = n / len(values) * len(sample)
    # Four standard deviations above the place where the nth lowest is expected in the sample.
    place = int(expected + 4 * math.sqrt(expected)) + 1
    low = values.take(np.flatnonzero(values <= np.partition(sample, place)[place]))
    return low if len(low) >= n else values


def positions(chosen: Tensor) -> Tensor:
    """The positions that are set in a bool tensor [N], in their order. Waits for the device."""
    if chosen.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(chosen.numpy()))
    return chosen.nonzero().flatten()


def entries(tensor: Tensor, where: Tensor) -> Tensor:
    """A copy of the entries of a tensor [N] at some positions."""
    if tensor.device.type == "cpu":
        return torch.from_numpy(tensor.numpy().take(where.numpy()))
    return tensor[where]
