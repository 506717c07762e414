"""Criteria that read the weights alone: norms, batch norm scales, distances, and none at all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tickdsl.graph.model import Block, ChannelGroup
from tickdsl.pruning.criteria.aggregate import averaged, inside, producers, rows
from tickdsl.pruning.criteria.protocol import Criterion, Subject
from tickdsl.pruning.units import left_units


class _Norm(Criterion):
    """A norm of a unit's weights: a filter's own, averaged over the layers that are coupled."""

    units = ("weights", "filters", "neurons", "layers", "blocks")

    def weights(self, subject: Subject, names: Sequence[str]) -> list[Tensor]:
        """One weight's norms are all its magnitude (Han et al. 2015; Frankle & Carbin 2019)."""
        return [subject.state[name].detach().abs().flatten().double() for name in names]

    def channels(self, subject: Subject, groups: Sequence[ChannelGroup]) -> list[Tensor]:
        return [
            averaged(
                subject,
                group,
                [(p, self.of_rows(rows(subject.state[p.parameter], p.dim).abs())) for p in producers(subject, group)],
                self.name,
            )
            for group in groups
        ]

    def layers(self, subject: Subject, blocks: Sequence[Block]) -> Tensor:
        return torch.stack([self.of_layer(inside(subject, block, subject.state).abs()) for block in blocks])

    def of_rows(self, absolute: Tensor) -> Tensor:
        """The norms of rows [units, weights] of absolute values."""
        raise NotImplementedError

    def of_layer(self, absolute: Tensor) -> Tensor:
        """The norm of all absolute values of a layer [weights]."""
        raise NotImplementedError


class Magnitude(_Norm):
    """Mean absolute weight."""

    name = "magnitude"

    def of_rows(self, absolute: Tensor) -> Tensor:
        return absolute.mean(1)

    def of_layer(self, absolute: Tensor) -> Tensor:
        return absolute.mean()


class L1(_Norm):
    """Sum of absolute weights (Li et al. 2017).

    Over whole layers it grows with a stage's width, so that it picks early stages first (Jordao et al. 2023, App. A.2).
    """

    name = "l1"

    def of_rows(self, absolute: Tensor) -> Tensor:
        return absolute.sum(1)

    def of_layer(self, absolute: Tensor) -> Tensor:
        return absolute.sum()


class L2(_Norm):
    """Euclidean norm; of a layer the root mean square, which does not grow with its size."""

    name = "l2"

    def of_rows(self, absolute: Tensor) -> Tensor:
        return absolute.square().sum(1).sqrt()

    def of_layer(self, absolute: Tensor) -> Tensor:
        return absolute.square().mean().sqrt()


class BatchNormScale(Criterion):
    """The absolute scale of the batch norm behind a filter (Liu et al. 2017)."""

    name = "bn-scale"
    units = ("filters",)
    needs = ("training", "batch norm")

    def channels(self, subject: Subject, groups: Sequence[ChannelGroup]) -> list[Tensor]:
        return [
            averaged(
                subject,
                group,
                [
                    (piece, rows(subject.state[piece.parameter], piece.dim).abs().mean(1))
                    for piece in group.slices
                    if piece.role == "norm" and piece.parameter.endswith("weight")
                ],
                self.name,
                "batch norm behind it",
            )
            for group in groups
        ]


class GeometricMedian(Criterion):
    """FPGM (He et al. 2019, section 3.3): the mean Euclidean distance of a filter to the others of its layer.

    What lies nearest to the geometric median of its layer can best be replaced by the others. The paper ranks within
    layers by the sum of the distances; the mean ranks alike there, and does not grow with a layer's width.
    """

    name = "fpgm"
    units = ("filters", "neurons")

    def channels(self, subject: Subject, groups: Sequence[ChannelGroup]) -> list[Tensor]:
        return [
            averaged(
                subject,
                group,
                [(p, _distances(rows(subject.state[p.parameter], p.dim))) for p in producers(subject, group)],
                self.name,
            )
            for group in groups
        ]


def _distances(filters: Tensor) -> Tensor:
    apart = torch.cdist(filters, filters).fill_diagonal_(0)
    return apart.sum(1) / max(1, len(filters) - 1)


class Random(Criterion):
    """A uniform draw."""

    name = "random"
    units = ("weights", "filters", "neurons", "layers", "blocks")

    def weights(self, subject: Subject, names: Sequence[str]) -> list[Tensor]:
        return [self._draw(subject, subject.state[name].numel()) for name in names]

    def channels(self, subject: Subject, groups: Sequence[ChannelGroup]) -> list[Tensor]:
        sizes = [len(left_units(subject.graph, subject.structure, group.name)) for group in groups]
        return [self._draw(subject, size) for size in sizes]

    def layers(self, subject: Subject, blocks: Sequence[Block]) -> Tensor:
        return torch.cat([self._draw(subject, 1) for _ in blocks])

    @staticmethod
    def _draw(subject: Subject, count: int) -> Tensor:
        return torch.rand(count, generator=subject.generator, dtype=torch.float64)
