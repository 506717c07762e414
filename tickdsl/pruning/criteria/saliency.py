"""Criteria that give every weight a saliency by backpropagation: SNIP, GraSP, SynFlow and Taylor."""

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

#: SNIP's and GraSP's pictures: 10 of each class, as in the configurations of GraSP's authors and in the comparison
#: of Tanaka et al. 2020; SNIP's own code takes 100 of CIFAR-10.
TEN_PER_CLASS = Sample(per_class=10)


class Saliency(Criterion):
    """A score per weight, from which those of larger units follow.

    A filter's is the sum over its incoming weights, what all of them do to the measured quantity to first order,
    averaged over the layers that are coupled. A layer's is the mean over its weights: the group of Jordao et al. 2023
    takes the mean over a block's filters.
    """

    def saliency(self, context: ScoringContext) -> dict[str, Tensor]:
        """The scores of all convolution and linear weights of what is left, by name, in their shapes."""
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

    Batch norm uses its running statistics, as in the authors' code: none has any effect on a network that is not
    trained. Their division by the sum of all scores changes no order and is left out.
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
    """What a weight does for the gradient flow, w · Hg (Wang et al. 2020, equation 8): the lowest go.

    The paper scores by -w · Hg and removes the *highest*: weights whose removal raises, or lowers least, the squared
    norm of the gradient. Here signs are turned, so that high scores stay as everywhere. g and Hg are those of the
    cross entropy of the scores divided by 200, over convolution and linear weights; batch norm uses the statistics of
    the batch, as in the authors' code. The linear layers keep their weights: the code draws them anew for scoring.
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
    """Synaptic flow |w · dR/dw| (Tanaka et al. 2020, algorithm 1): no data, R is the sum of the outputs for ones.

    All parameters and buffers are replaced by their absolute values and batch norm uses its running statistics,
    running means included, as in the authors' code. Before training that makes batch norm a constant factor, and the
    flow through every layer the same: no layer is emptied before the others. Meant to be repeated: `to 95% x 100`.
    In float64, since the flow grows with every layer.
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
    """The squared first-order change of the loss without a unit, mean over batches (Molchanov et al. 2019, section 3).

    A weight's is (w · dL/dw)². A filter's is that of a gate on its channel wherever it is read: (sum of w · dL/dw over
    the weights that read it)². That is the paper's gate behind batch norm and activation, and exactly what goes
    here; where layers are coupled the gate is common to all. Batch norm uses its running statistics.
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
        return [torch.stack(found).square().mean(0) for found in zip(*changes, strict=True)]

    def _gate_scores(self, context: ScoringContext, group: ChannelGroup, first_order: Mapping[str, Tensor]) -> Tensor:
        readers = [
            (group_slice, flatten_rows(first_order[group_slice.parameter], group_slice.dim).sum(1))
            for group_slice in group.slices
            if group_slice.role == "consumer" and group_slice.parameter in first_order
        ]
        return sum_scores(context, group, readers, self.name, "weights that read it")

    def _first_order(self, context: ScoringContext) -> list[dict[str, Tensor]]:
        """w · dL/dw of every batch."""
        module = context.network(context.structure).eval()
        weights = _prunable_weights(context, module)
        by_batch = []
        for batch in context.batches(self.sample):
            gradients = _mean_gradients(module, weights, [batch])
            by_batch.append({name: (w * g).detach() for (name, w), g in zip(weights.items(), gradients, strict=True)})
        return by_batch


def _prunable_weights(context: ScoringContext, module: nn.Module) -> dict[str, Tensor]:
    """The convolution and linear weights of what is left."""
    gone = removed_parameters(context.graph, context.structure)
    parameters = dict(module.named_parameters())
    return {name: parameters[name] for name in context.graph.weights if name not in gone}


def _mean_gradients(
    module: nn.Module, weights: Mapping[str, Tensor], batches: Sequence[Batch], temperature: float = 1.0
) -> list[Tensor]:
    """The gradient of the mean cross entropy over all pictures."""
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
    """In evaluation mode but for batch norm, which normalises by the batch: dropout would draw at random."""
    module.eval()
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.train()
    return module
