"""Criteria on the outputs of filters and layers: HRank and expected absolute activation."""

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
from tickdsl.pruning.criteria.shared_batches import share_batches
from tickdsl.training.named_tensors import run_network

_CHANNELS_LAST = (nn.Linear, nn.LayerNorm, nn.Embedding)


class _ActivationCriterion(Criterion):
    """The mean of a statistic of feature maps over images, in eval mode.

    A filter's feature map is read after its batch norm (if there is one) and a ReLU; coupled layers are scored before
    their outputs are added, and averaged. A layer's score is the mean over its output channels after a ReLU.
    """

    sample: Sample
    shares_batches = True

    def statistic(self, maps: Tensor) -> Tensor:
        """Reduce feature maps [N, C, ...] to [C] by summing the statistic over images."""
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
        """The mean statistic per output channel of each module."""
        module = context.network(context.structure).eval()
        sums: dict[str, Tensor] = {}
        counts = torch.zeros(len(paths), dtype=torch.float64)

        def watch(number: int, path: str) -> Callable[[nn.Module, Any, Tensor], None]:
            def hook(layer: nn.Module, _: Any, output: Tensor) -> None:
                maps = F.relu(output.movedim(-1, 1) if isinstance(layer, _CHANNELS_LAST) else output)
                statistic = self.statistic(maps).cpu().double()
                sums[path] = sums.get(path, torch.zeros_like(statistic)) + statistic
                counts[number] += len(maps)

            return hook

        with torch.no_grad(), ExitStack() as stack:
            for number, path in enumerate(paths):
                handle = module.get_submodule(path).register_forward_hook(watch(number, path))
                stack.callback(handle.remove)
            batches = share_batches(context, context.batches(self.sample))
            for images, _ in batches.own:
                run_network(module, images)
        sums = batches.add_up_by_name(sums)
        batches.add_up([counts])
        return {path: sums[path] / count for path, count in zip(paths, counts, strict=True) if path in sums}


class HRank(_ActivationCriterion):
    """The mean rank of the feature maps, on 500 images as in the paper (Lin et al. 2020, section 3.2).

    It is divided by the larger side of the map, so that maps of different sizes are comparable, as Jordao et al. (2023)
    do for layers; within a layer, this does not change the order.
    """

    name = "hrank"
    units = ("filters", "layers", "blocks")
    needs = ("data",)
    sample = Sample(total=500, batch=125)

    def statistic(self, maps: Tensor) -> Tensor:
        if maps.dim() != 4:
            raise TickdslError(
                "`by hrank` needs feature maps, but a layer in scope has none", "exclude it with `except`"
            )
        ranks: Tensor = torch.linalg.matrix_rank(maps)
        return ranks.double().sum(0) / max(maps.shape[2:])


class ExpectedAbs(_ActivationCriterion):
    """The mean absolute activation (DropNet, Tan & Motani 2020; expectABS, Jordao et al. 2023).

    It uses 500 images per class, where the code of Jordao et al. uses the whole training set.
    """

    name = "expected-abs"
    units = ("filters", "neurons", "layers", "blocks")
    needs = ("data",)
    sample = Sample(per_class=500)

    def statistic(self, maps: Tensor) -> Tensor:
        return maps.abs().double().flatten(2).mean(2).sum(0) if maps.dim() > 2 else maps.abs().double().sum(0)


def _activation_source(context: ScoringContext, group: ChannelGroup, group_slice: Slice) -> tuple[str, Slice]:
    """The module whose output holds a producer's filters (its batch norm, or else the layer), and the slice of it."""
    graph = context.graph.graph
    norms = {norm.parameter: norm for norm in group.slices if norm.role == "norm"}
    for operator in graph.successors(group_slice.parameter):
        for next_operator in graph.successors(operator):
            for tensor in graph.predecessors(next_operator):
                if tensor in norms:
                    return tensor.rpartition(".")[0], norms[tensor]
    return context.graph.weights[group_slice.parameter].module, group_slice
