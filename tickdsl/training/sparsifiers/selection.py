"""The lowest of some scores, on the device of the scores.

The rules are those of a prune (`tickdsl.pruning.selection`): among ties within a tensor, lower positions come first;
tensors that are ranked together lose equal shares of the scores that tie at the threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tickdsl.equal_shares import equal_shares

#: Above every score: what is out of reach.
UNREACHABLE = 3e38


def out_of_reach(scores: Tensor, outside: Tensor) -> Tensor:
    """The scores, higher than all others where `outside` is 1 instead of 0; it has their dtype.

    One pass without a branch: `masked_fill` takes ten times as long on a CPU.
    """
    return torch.add(scores, outside, alpha=UNREACHABLE)


@torch.no_grad()
def lowest(scores: Tensor, count: int) -> Tensor:
    """Where the `count` lowest of some scores [N] are: bool [N]."""
    if scores.device.type != "cpu" or not 0 < count < len(scores):
        return lowest_of_all([scores], count)[0]
    values = scores.numpy()
    threshold = _nth_lowest(scores, count)
    chosen = values <= threshold
    more = int(np.count_nonzero(chosen)) - count
    if more:  # of the scores that tie at the threshold, the last ones stay
        chosen[np.flatnonzero(values == threshold)[-more:]] = False
    return torch.from_numpy(chosen)


@torch.no_grad()
def highest_among(scores: Tensor, among: Tensor, count: int) -> Tensor:
    """Where the `count` highest of the scores in `among` are: bool [N]; among ties, lower positions come first.

    scores: [N], outside of `among` no lower than in it, such as negative magnitudes of weights that are 0 there. among:
    bool [N]. So the scores need no change for ranking some of them. (numpy partitions ties at the high end fast, and
    such at the low end ten times as slowly.)
    """
    if not count:
        return torch.zeros_like(among)
    threshold = _nth_lowest(scores, number_of(among) - count + 1)
    chosen = _where(scores, threshold, lambda values, bound: values >= bound).logical_and_(among)
    more = number_of(chosen) - count
    if more:  # of the scores that tie at the threshold, the last ones stay
        ties = _where(scores, threshold, lambda values, bound: values == bound).logical_and_(among)
        chosen.index_fill_(0, _positions(ties)[-more:], False)
    return chosen


@torch.no_grad()
def lowest_of_all(scores: Sequence[Tensor], count: int) -> list[Tensor]:
    """Where the `count` lowest scores of all tensors together are: bool, by tensor. Scores are flat and not NaN.

    It partitions instead of sorting, and waits for the device.
    """
    total = sum(len(score) for score in scores)
    if count <= 0 or count >= total:
        return [torch.full_like(score, count > 0, dtype=torch.bool) for score in scores]
    threshold = _nth_lowest(scores[0] if len(scores) == 1 else torch.cat(list(scores)), count)
    chosen = [is_below(score, threshold) for score in scores]
    missing = count - sum(number_of(below) for below in chosen)
    ties = [_ties(score, threshold) for score in scores]
    for below, tied, number in zip(chosen, ties, equal_shares([len(tied) for tied in ties], missing), strict=True):
        below[tied[:number]] = True
    return chosen


# On a CPU, numpy partitions and compares many times as fast as torch.


def is_below(tensor: Tensor, bound: Any) -> Tensor:
    """Where a tensor is below a bound: bool."""
    return _where(tensor, bound, lambda values, limit: values < limit)


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
        return np.partition(scores.numpy(), n - 1)[n - 1]
    return scores.kthvalue(n).values  # a tensor, so that nothing waits for the device


def _ties(scores: Tensor, threshold: Any) -> Tensor:
    """The positions of the scores that equal the threshold."""
    return _positions(_where(scores, threshold, lambda values, bound: values == bound))


def _positions(chosen: Tensor) -> Tensor:
    """The positions that are set in a bool tensor [N]."""
    if chosen.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(chosen.numpy()))
    positions: Tensor = chosen.nonzero().flatten()
    return positions
