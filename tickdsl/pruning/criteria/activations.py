"""Criteria that read what comes out of filters and layers: HRank and expected absolute activation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tickdsl.errors import TickdslError
from tickdsl.graph.model import Block, ChannelGroup, Slice
from tickdsl.pruning.criteria.protocol import Criterion, Sample, ScoringContext
from tickdsl.pruning.criteria.score_aggregation import average_scores, producer_slices

_CHANNELS_LAST = (nn.Linear, nn.LayerNorm)


class _ActivationCriterion(Criterion):
    """A statistic of feature maps, mean over pictures, in evaluation mode.

    A filter's map is taken behind its batch norm (where there is one) and a ReLU; of coupled layers each gives its
    own, before they are added. A layer's score is the mean over the channels of what leaves it, behind a ReLU.
    """

    sample: Sample

    def statistic(self, maps: Tensor) -> Tensor:
        """The sum over pictures of maps [N, C, ...] to [C], float64."""
        raise NotImplementedError

    def channels(self, context: ScoringContext, groups: Sequence[ChannelGroup]) -> list[Tensor]:
        sources = [
            [_activation_source(context, group, group_slice) for group_slice in producer_slices(context, group)]
            for group in groups
        ]
        means = self._channel_means(context, sorted({path for group_sources in sources for path, _ in group_sources}))
        return [
            average_scores(
                context, group, [(group_slice, means[path]) for path, group_slice in group_sources], self.name
            )
            for group, group_sources in zip(groups, sources, strict=True)
        ]

    def layers(self, context: ScoringContext, blocks: Sequence[Block]) -> Tensor:
        means = self._channel_means(context, sorted({block.replaced[-1] for block in blocks}))
        return torch.stack([means[block.replaced[-1]].mean() for block in blocks])

    def _channel_means(self, context: ScoringContext, paths: Sequence[str]) -> dict[str, Tensor]:
        """The statistic per channel of the outputs of these modules."""
        module = context.network(context.structure).eval()
        sums: dict[str, Tensor] = {}
        counts = dict.fromkeys(paths, 0)

        def watch(path: str) -> Callable[[nn.Module, Any, Tensor], None]:
            def hook(layer: nn.Module, _: Any, output: Tensor) -> None:
                maps = F.relu(output.movedim(-1, 1) if isinstance(layer, _CHANNELS_LAST) else output)
                statistic = self.statistic(maps).cpu().double()
                sums[path] = sums.get(path, torch.zeros_like(statistic)) + statistic
                counts[path] += len(maps)

            return hook

        with torch.no_grad(), ExitStack() as stack:
            for path in paths:
                handle = module.get_submodule(path).register_forward_hook(watch(path))
                stack.callback(handle.remove)
            for images, _ in context.batches(self.sample):
                module(images)
        return {path: total / counts[path] for path, total in sums.items()}


class HRank(_ActivationCriterion):
    """The mean rank of the feature maps (Lin et al. 2020, section 3.2), from 500 pictures as in the paper.

    Divided by the map's larger side, so that maps of all sizes can be compared, as the group of Jordao et al. 2023 does
    for layers; within one layer that changes no order.
    """

    name = "hrank"
    units = ("filters", "layers", "blocks")
    needs = ("data",)
    sample = Sample(total=500, batch=125)

    def statistic(self, maps: Tensor) -> Tensor:
        if maps.dim() != 4:
            raise TickdslError(
                "`by hrank` ranks feature maps, and a layer in scope gives none", "leave it out with `except`"
            )
        ranks: Tensor = torch.linalg.matrix_rank(maps)
        return ranks.double().sum(0) / max(maps.shape[2:])


class ExpectedAbs(_ActivationCriterion):
    """The mean absolute activation (DropNet, Tan & Motani 2020; expectABS of Jordao et al. 2023).

    From 500 pictures of each class; the group's code reads the whole training set.
    """

    name = "expected-abs"
    units = ("filters", "neurons", "layers", "blocks")
    needs = ("data",)
    sample = Sample(per_class=500)

    def statistic(self, maps: Tensor) -> Tensor:
        return maps.abs().double().flatten(2).mean(2).sum(0) if maps.dim() > 2 else maps.abs().double().sum(0)


def _activation_source(context: ScoringContext, group: ChannelGroup, group_slice: Slice) -> tuple[str, Slice]:
    """The module whose output holds the filters of a producer, and where: its batch norm, else the layer itself."""
    graph = context.graph.graph
    norms = {norm.parameter: norm for norm in group.slices if norm.role == "norm"}
    for operator in graph.successors(group_slice.parameter):
        for next_operator in graph.successors(operator):
            for tensor in graph.predecessors(next_operator):
                if tensor in norms:
                    return tensor.rpartition(".")[0], norms[tensor]
    return context.graph.weights[group_slice.parameter].module, group_slice
