"""The lowest of some scores, on the device of the scores.

The rules are those of a prune (`tickdsl.pruning.selection`): among ties within a tensor, lower positions come first;
tensors that are ranked together lose equal shares of the scores that tie at the threshold.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tickdsl.equal_shares import equal_shares


def lowest(scores: Tensor, count: int) -> Tensor:
    """Where the `count` lowest of some scores [N] are: bool [N]."""
    return lowest_of_all([scores], count)[0]


@torch.no_grad()
def lowest_of_all(scores: Sequence[Tensor], count: int) -> list[Tensor]:
    """Where the `count` lowest scores of all tensors together are: bool, by tensor. Scores are flat.

    It partitions instead of sorting, and waits for the device.
    """
    total = sum(len(score) for score in scores)
    if count <= 0 or count >= total:
        return [torch.full_like(score, count > 0, dtype=torch.bool) for score in scores]
    threshold = torch.cat(list(scores)).kthvalue(count).values
    chosen = [score < threshold for score in scores]
    ties = [(score == threshold).nonzero().flatten() for score in scores]
    missing = count - sum(int(below.sum()) for below in chosen)
    for below, tied, number in zip(chosen, ties, equal_shares([len(tied) for tied in ties], missing), strict=True):
        below[tied[:number]] = True
    return chosen


def highest(scores: Tensor, count: int) -> Tensor:
    """Where the `count` highest of some scores [N] are: bool [N]; of ties, lower positions come first."""
    return lowest(-scores, count)
