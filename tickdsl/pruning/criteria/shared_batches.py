"""Scores that several processes compute together: each takes some of the batches, and what they find is added up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import attrs
import torch
from torch import Tensor

from tickdsl.pruning.criteria.protocol import Batch, Criterion, ScoringContext
from tickdsl.training.parallel.ranks import Ranks
from tickdsl.training.parallel.shares import cut

T = TypeVar("T")


@attrs.frozen(eq=False)
class SharedBatches:
    """The batches of a sample, as one of the processes sees them.

    own: those that it takes; images, count: how many images and batches all processes take. Every batch is computed by
    one process as a whole, so that its loss and the statistics of its batch norm are those of a single process.
    """

    own: Sequence[Batch]
    images: int
    count: int
    _ranks: Ranks | None = None

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes, in place."""
        if self._ranks is not None:
            self._ranks.add_up(tensors)

    def add_up_by_name(self, totals: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The sums over all processes of tensors by name; a process that lacks a name adds nothing to it."""
        if self._ranks is None:
            return dict(totals)
        shapes = {name: (total.shape, total.dtype) for name, total in totals.items()}
        known = {name: kind for each in self._ranks.gather_objects(shapes) for name, kind in each.items()}
        device = next((total.device for total in totals.values()), torch.device("cpu"))
        sums = {
            name: totals[name].clone() if name in totals else torch.zeros(shape, dtype=dtype, device=device)
            for name, (shape, dtype) in known.items()
        }
        self._ranks.add_up(list(sums.values()))
        return sums

    def mean(self, values: Tensor) -> Tensor:
        """The mean of the values [n] of all processes, []."""
        if self._ranks is None:
            return values.mean()
        total = torch.stack([values.sum(), values.new_tensor(len(values))])
        self._ranks.add_up([total])
        return total[0] / total[1]

    def all_rows(self, rows: Tensor) -> Tensor:
        """The rows [n, …] of all processes, in the order of the batches."""
        if self._ranks is None:
            return rows
        return self._ranks.gather_rows(rows, self._ranks.gather_objects(len(rows)))


def unshared(batches: Sequence[Batch]) -> SharedBatches:
    """Batches that this process takes alone."""
    return SharedBatches(batches, sum(len(targets) for _, targets in batches), len(batches))


def share_batches(context: ScoringContext, batches: Sequence[Batch]) -> SharedBatches:
    """Share batches between the processes of a step; where each cannot have one, every process takes all of them."""
    ranks = context.ranks
    if ranks is None or len(batches) < ranks.size:
        return unshared(batches)
    own = [batches[number] for number in range(*cut(len(batches), ranks.size)[ranks.rank])]
    images = sum(ranks.gather_objects(sum(len(targets) for _, targets in own)))
    return SharedBatches(own, images, len(batches), ranks)


def scores_together(criterion: Criterion, context: ScoringContext, score: Callable[[ScoringContext], T]) -> T:
    """What `score` returns, the same in all processes of a step.

    They compute it together if the criterion shares its batches; otherwise process 0 does, and the others wait for it.
    So does it if the network draws random numbers, which depend on the batches before.
    """
    ranks = context.ranks
    if ranks is None:
        return score(context)
    if criterion.shares_batches and not context.draws:
        return ranks.of_first(score(context))
    scores: T | None = None
    error: Exception | None = None
    if ranks.rank == 0:
        try:
            scores = score(attrs.evolve(context, ranks=None))
        except Exception as raised:
            error = raised
    scores, failure = ranks.of_first((scores, None if error is None else str(error)))
    if error is not None:
        raise error
    if failure is not None:
        raise RuntimeError(f"process 1 could not score the network: {failure}")
    return scores  # type: ignore[return-value]
