"""Criteria that score weights by backpropagation: SNIP, GraSP, SynFlow and Taylor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tickdsl.graph.indexing import removed_parameters
from tickdsl.graph.model import Block, ChannelGroup
from tickdsl.pruning.criteria.protocol import Batch, Criterion, Sample, ScoringContext
from tickdsl.pruning.criteria.score_aggregation import (
    average_scores,
    block_scores,
    flatten_rows,
    producer_slices,
    sum_scores,
)

#: The sample of SNIP and GraSP: 10 images per class, as in the configurations of GraSP's authors and in Tanaka et al.
#: (2020). SNIP's own code uses 100 images of CIFAR-10.
TEN_PER_CLASS = Sample(per_class=10)


class Saliency(Criterion):
    """A score per weight, from which the scores of larger units follow.

    A filter's score is the sum over its incoming weights (their joint first-order effect), averaged over the coupled
    layers. A layer's score is the mean over its weights; Jordao et al. (2023) take the mean over a block's filters.
    """

    def saliency(self, context: ScoringContext) -> dict[str, Tensor]:
        """The scores of all convolution and linear weights of the compact network, by name, in their shapes."""
        raise NotImplementedError

    def weights(self, context: ScoringContext, names: Sequence[str]) -> list[Tensor]:
        scores_by_name = self.saliency(context)
        return [scores_by_name[name].cpu().double().flatten() for name in names]

    def channels(self, context: ScoringContext, groups: Sequence[ChannelGroup]) -> list[Tensor]:
        scores_by_name = self.saliency(context)
        return [
            average_scores(
                context,
                group,
                [(p, flatten_rows(scores_by_name[p.parameter], p.dim).sum(1)) for p in producer_slices(context, group)],
                self.name,
            )
            for group in groups
        ]

    def layers(self, context: ScoringContext, blocks: Sequence[Block]) -> Tensor:
        scores_by_name = self.saliency(context)
        return torch.stack([block_scores(context, block, scores_by_name).mean() for block in blocks])


class Snip(Saliency):
    """Connection sensitivity |w · dL/dw| (Lee et al. 2019, equation 6), on the cross entropy of one batch.

    Batch norm uses its running statistics, which have no effect on an untrained network, as in the authors' code.
    The paper's division by the sum of all scores is omitted, since it does not change the order.
    """

    name = "snip"
    units = ("weights", "filters", "neurons", "layers", "blocks")
    needs = ("data", "gradients")

    def saliency(self, context: ScoringContext) -> dict[str, Tensor]:
        module = context.network(context.structure).eval()
        weights = _prunable_weights(context, module)
        gradients = _mean_gradients(module, weights, context.batches(TEN_PER_CLASS))
        return {name: (w * g).detach().abs() for (name, w), g in zip(weights.items(), gradients, strict=True)}


class Grasp(Saliency):
    """A weight's contribution to the gradient flow, w · Hg (Wang et al. 2020, equation 8).

    The paper scores by -w · Hg and removes the *highest* scores: weights whose removal increases the squared gradient
    norm, or decreases it least. The sign is flipped here, so that high scores are kept, as for all criteria. g and Hg
    are taken from the cross entropy of the logits divided by 200, over convolution and linear weights. Batch norm uses
    batch statistics, as in the authors' code. Unlike in that code, linear layers are not re-initialised for scoring.
    """

    name = "grasp"
    units = Snip.units
    needs = ("data", "gradients")
    temperature = 200.0

    def saliency(self, context: ScoringContext) -> dict[str, Tensor]:
        module = _batch_statistics(context.network(context.structure))
        weights = _prunable_weights(context, module)
        batches = context.batches(TEN_PER_CLASS)
        gradients = _mean_gradients(module, weights, batches, self.temperature)
        products = [torch.zeros_like(w) for w in weights.values()]
        count = sum(len(labels) for _, labels in batches)
        for images, labels in batches:
            loss = _loss(module, images, labels, self.temperature) * (len(labels) / count)
            flow = torch.autograd.grad(loss, list(weights.values()), create_graph=True, materialize_grads=True)
            dot = torch.stack([(g * f).sum() for g, f in zip(gradients, flow, strict=True)]).sum()
            for total, gradient in zip(
                products, torch.autograd.grad(dot, list(weights.values()), materialize_grads=True), strict=True
            ):
                total += gradient
        return {name: (w * h).detach() for (name, w), h in zip(weights.items(), products, strict=True)}


class SynFlow(Saliency):
    """Synaptic flow |w · dR/dw|, where R is the sum of the outputs for an input of ones (Tanaka et al. 2020, alg. 1).

    All parameters and buffers are replaced by their absolute values, and batch norm uses its running statistics,
    including the running means, as in the authors' code. Before training, batch norm is then a constant factor and the
    total flow of all layers is equal, so no layer is emptied before the others. Use it in many rounds: `to 95% x 100`.
    Computed in float64, since the flow grows with each layer.
    """

    name = "synflow"
    units = ("weights", "filters", "neurons")
    needs = ("network",)

    def saliency(self, context: ScoringContext) -> dict[str, Tensor]:
        module = context.network(context.structure).double().eval()
        with torch.no_grad():
            for tensor in (*module.parameters(), *module.buffers()):
                tensor.abs_()
        weights = _prunable_weights(context, module)
        device = next(iter(weights.values())).device
        ones = torch.ones(1, *context.shape, dtype=torch.float64, device=device)
        gradients = torch.autograd.grad(module(ones).sum(), list(weights.values()), materialize_grads=True)
        return {name: (w * g).detach().abs() for (name, w), g in zip(weights.items(), gradients, strict=True)}


class Taylor(Criterion):
    """The squared first-order change of the loss when a unit is removed, averaged over batches.

    A weight's score is (w · dL/dw)². A filter's score is that of a gate on its channel: (sum of w · dL/dw over the
    weights that read it)². This is the paper's gate after batch norm and activation, and is exactly what is removed
    here; coupled layers share one gate. Batch norm uses its running statistics. Source: Molchanov et al. 2019, section
    3.
    """

    name = "taylor"
    units = ("weights", "filters", "neurons")
    needs = ("data", "gradients", "training")
    sample = Sample(total=30 * 128, batch=128)

    def weights(self, context: ScoringContext, names: Sequence[str]) -> list[Tensor]:
        totals = [torch.zeros(context.state[name].numel(), dtype=torch.float64) for name in names]
        steps = list(self._first_order(context))
        for first_order in steps:
            for total, name in zip(totals, names, strict=True):
                total += first_order[name].flatten().cpu().double().square() / len(steps)
        return totals

    def channels(self, context: ScoringContext, groups: Sequence[ChannelGroup]) -> list[Tensor]:
        changes: list[list[Tensor]] = []
        for first_order in self._first_order(context):
            changes.append([self._gate_scores(context, group, first_order) for group in groups])
        return [torch.stack(by_batch).square().mean(0) for by_batch in zip(*changes, strict=True)]

    def _gate_scores(self, context: ScoringContext, group: ChannelGroup, first_order: Mapping[str, Tensor]) -> Tensor:
        readers = [
            (group_slice, flatten_rows(first_order[group_slice.parameter], group_slice.dim).sum(1))
            for group_slice in group.slices
            if group_slice.role == "consumer" and group_slice.parameter in first_order
        ]
        return sum_scores(context, group, readers, self.name, "weights that read it")

    def _first_order(self, context: ScoringContext) -> list[dict[str, Tensor]]:
        """w · dL/dw for each batch."""
        module = context.network(context.structure).eval()
        weights = _prunable_weights(context, module)
        by_batch = []
        for batch in context.batches(self.sample):
            gradients = _mean_gradients(module, weights, [batch])
            by_batch.append({name: (w * g).detach() for (name, w), g in zip(weights.items(), gradients, strict=True)})
        return by_batch


def _prunable_weights(context: ScoringContext, module: nn.Module) -> dict[str, Tensor]:
    """The convolution and linear weights of the compact network."""
    removed = removed_parameters(context.graph, context.structure)
    parameters = dict(module.named_parameters())
    return {name: parameters[name] for name in context.graph.weights if name not in removed}


def _mean_gradients(
    module: nn.Module, weights: Mapping[str, Tensor], batches: Sequence[Batch], temperature: float = 1.0
) -> list[Tensor]:
    """The gradients of the mean cross entropy over all images."""
    totals = [torch.zeros_like(weight) for weight in weights.values()]
    count = sum(len(labels) for _, labels in batches)
    for images, labels in batches:
        loss = _loss(module, images, labels, temperature) * (len(labels) / count)
        for total, gradient in zip(
            totals, torch.autograd.grad(loss, list(weights.values()), materialize_grads=True), strict=True
        ):
            total += gradient
    return totals


def _loss(module: nn.Module, images: Tensor, labels: Tensor, temperature: float) -> Tensor:
    return F.cross_entropy(module(images) / temperature, labels)


def _batch_statistics(module: nn.Module) -> nn.Module:
    """Set eval mode (so that dropout is off), but let batch norm use batch statistics."""
    module.eval()
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.train()
    return module
