"""The criterion of Molchanov et al. (2019)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from tickdsl.graph.model import ChannelGroup
from tickdsl.pruning.criteria.backpropagation import ByName, mean_gradients, prunable_weights, require_scores
from tickdsl.pruning.criteria.protocol import Criterion, Sample, ScoringContext
from tickdsl.pruning.criteria.score_aggregation import flatten_rows, sum_scores


class Taylor(Criterion):
    """The squared first-order change of the loss when a unit is removed, averaged over batches.

    A weight's score is (w · dL/dw)². A filter's score is that of a gate on its channel: (sum of w · dL/dw over the
    weights that read it)². This is the paper's gate after batch norm and activation, and is exactly what is removed
    here; coupled layers share one gate. Batch norm uses its running statistics. Only the sums over the batches so far
    are kept in memory. Source: Molchanov et al. 2019, section 3.
    """

    name = "taylor"
    units = ("weights", "filters", "neurons")
    needs = ("data", "gradients", "training")
    sample = Sample(total=30 * 128, batch=128)

    def weights(self, context: ScoringContext, names: Sequence[str]) -> list[Tensor]:
        totals = [torch.zeros(context.state[name].numel(), dtype=torch.float64) for name in names]
        count = 0
        for first_order in self._first_order(context):
            require_scores(names, first_order, self.name)
            for total, name in zip(totals, names, strict=True):
                total += first_order[name].flatten().cpu().double().square()
            count += 1
        return [total / count for total in totals]

    def channels(self, context: ScoringContext, groups: Sequence[ChannelGroup]) -> list[Tensor]:
        totals: list[Tensor] = []
        count = 0
        for first_order in self._first_order(context):
            squares = [self._gate_scores(context, group, first_order).square() for group in groups]
            totals = [total + square for total, square in zip(totals, squares, strict=True)] if totals else squares
            count += 1
        return [total / count for total in totals]

    def _gate_scores(self, context: ScoringContext, group: ChannelGroup, first_order: Mapping[str, Tensor]) -> Tensor:
        readers = [
            (group_slice, flatten_rows(first_order[group_slice.parameter], group_slice.dim).sum(1))
            for group_slice in group.slices
            if group_slice.role == "consumer" and group_slice.parameter in first_order
        ]
        return sum_scores(context, group, readers, self.name, "weights that read it")

    def _first_order(self, context: ScoringContext) -> Iterator[ByName]:
        """w · dL/dw for each batch."""
        module = context.network(context.structure).eval()
        weights = prunable_weights(context, module)
        for batch in context.batches(self.sample):
            found = mean_gradients(context, module, weights, [batch])
            yield {name: (weights[name] * gradient).detach() for name, gradient in found.items()}
