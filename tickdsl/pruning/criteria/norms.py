"""Criteria on the weights alone: norms, batch norm scales, distances, and random scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tickdsl.errors import TickdslError
from tickdsl.graph.model import Block, ChannelGroup
from tickdsl.pruning.criteria.protocol import Criterion, ScoringContext
from tickdsl.pruning.criteria.score_aggregation import average_scores, block_scores, flatten_rows, producer_slices
from tickdsl.pruning.remaining_units import remaining_units


class _NormCriterion(Criterion):
    """A norm of a unit's weights; for filters, averaged over the coupled layers."""

    units = ("weights", "filters", "neurons", "heads", "head-dims", "layers", "blocks")

    def weights(self, context: ScoringContext, names: Sequence[str]) -> list[Tensor]:
        """The magnitudes: for a single weight, all norms agree (Han et al. 2015; Frankle & Carbin 2019)."""
        return [context.state[name].detach().abs().flatten().double() for name in names]

    def channels(self, context: ScoringContext, groups: Sequence[ChannelGroup]) -> list[Tensor]:
        return [
            average_scores(
                context,
                group,
                [
                    (p, self.row_norms(flatten_rows(context.state[p.parameter], p.dim).abs()))
                    for p in producer_slices(context, group)
                ],
                self.name,
            )
            for group in groups
        ]

    def layers(self, context: ScoringContext, blocks: Sequence[Block]) -> Tensor:
        return torch.stack(
            [self.whole_layer_norm(block_scores(context, block, context.state).abs()) for block in blocks]
        )

    def row_norms(self, absolute: Tensor) -> Tensor:
        """The norms of the rows of absolute weights, [units, weights] to [units]."""
        raise NotImplementedError

    def whole_layer_norm(self, absolute: Tensor) -> Tensor:
        """The norm of all absolute weights of a layer, [weights] to a scalar."""
        raise NotImplementedError


class Magnitude(_NormCriterion):
    """The mean absolute weight."""

    name = "magnitude"

    def row_norms(self, absolute: Tensor) -> Tensor:
        return absolute.mean(1)

    def whole_layer_norm(self, absolute: Tensor) -> Tensor:
        return absolute.mean()


class L1(_NormCriterion):
    """The sum of absolute weights (Li et al. 2017).

    For whole layers it grows with the width of the stage, so early stages are removed first (Jordao et al. 2023, A.2).
    """

    name = "l1"

    def row_norms(self, absolute: Tensor) -> Tensor:
        return absolute.sum(1)

    def whole_layer_norm(self, absolute: Tensor) -> Tensor:
        return absolute.sum()


class L2(_NormCriterion):
    """The Euclidean norm; for layers, the root mean square, which does not grow with their size."""

    name = "l2"

    def row_norms(self, absolute: Tensor) -> Tensor:
        return absolute.square().sum(1).sqrt()

    def whole_layer_norm(self, absolute: Tensor) -> Tensor:
        return absolute.square().mean().sqrt()


class BatchNormScale(Criterion):
    """The absolute scale of the batch norm that follows a filter (Liu et al. 2017)."""

    name = "bn-scale"
    units = ("filters",)
    needs = ("training", "batch norm")

    def channels(self, context: ScoringContext, groups: Sequence[ChannelGroup]) -> list[Tensor]:
        return [
            average_scores(
                context,
                group,
                [
                    (group_slice, flatten_rows(context.state[group_slice.parameter], group_slice.dim).abs().mean(1))
                    for group_slice in group.slices
                    if group_slice.role == "norm" and group_slice.parameter.endswith("weight")
                ],
                self.name,
                "batch norm after it",
            )
            for group in groups
        ]


class GeometricMedian(Criterion):
    """FPGM (He et al. 2019, section 3.3): the mean Euclidean distance of a filter to the others of its layer.

    Filters near the geometric median of their layer are the most redundant. The paper ranks within a layer by the sum
    of distances; the mean gives the same order, and does not grow with the layer's width.
    """

    name = "fpgm"
    units = ("filters", "neurons")

    def channels(self, context: ScoringContext, groups: Sequence[ChannelGroup]) -> list[Tensor]:
        return [
            average_scores(
                context,
                group,
                [
                    (p, _mean_distances(flatten_rows(context.state[p.parameter], p.dim)))
                    for p in producer_slices(context, group)
                ],
                self.name,
            )
            for group in groups
        ]


def _mean_distances(filters: Tensor) -> Tensor:
    apart = torch.cdist(filters, filters).fill_diagonal_(0)
    return apart.sum(1) / max(1, len(filters) - 1)


class Delta(Criterion):
    """The absolute change of a weight since initialisation, or since the pretrained weights of its network.

    "Movement" in Zhou et al. 2019, table 1: |w_final - w_init|.
    """

    name = "delta"
    units = ("weights",)
    needs = ("training",)

    def weights(self, context: ScoringContext, names: Sequence[str]) -> list[Tensor]:
        if context.origin is None:
            raise TickdslError(
                "`by delta` needs the weights from which changes are measured",
                "use it in a plan, or give the ScoringContext an `origin`; `tickdsl.prune` knows only the network",
            )
        return [
            (context.state[name].detach().double().cpu() - context.origin[name].double().cpu()).abs().flatten()
            for name in names
        ]


class Movement(Criterion):
    """Movement is summed up while a network trains gradually sparser (Sanh et al. 2020); a network alone has none."""

    name = "movement"
    units = ("weights",)
    needs = ("training",)

    def weights(self, context: ScoringContext, names: Sequence[str]) -> list[Tensor]:
        raise TickdslError(
            "`by movement` ranks by what a training did to every weight, and not by a network",
            "prune gradually (`from … to … every …`), or use `by delta`",
        )


class Random(Criterion):
    """Uniform random scores."""

    name = "random"
    units = ("weights", "filters", "neurons", "heads", "head-dims", "layers", "blocks")

    def weights(self, context: ScoringContext, names: Sequence[str]) -> list[Tensor]:
        return [self._draw(context, context.state[name].numel()) for name in names]

    def channels(self, context: ScoringContext, groups: Sequence[ChannelGroup]) -> list[Tensor]:
        sizes = [len(remaining_units(context.graph, context.structure, group.name)) for group in groups]
        return [self._draw(context, size) for size in sizes]

    def layers(self, context: ScoringContext, blocks: Sequence[Block]) -> Tensor:
        return torch.cat([self._draw(context, 1) for _ in blocks])

    @staticmethod
    def _draw(context: ScoringContext, count: int) -> Tensor:
        return torch.rand(count, generator=context.generator, dtype=torch.float64)
