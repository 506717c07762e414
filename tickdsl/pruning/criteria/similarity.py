"""Criteria that compare the network with and without a layer: CKA and the Kullback-Leibler divergence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tickdsl.errors import TickdslError
from tickdsl.graph.model import Block
from tickdsl.pruning.criteria.protocol import Criterion, Sample, ScoringContext
from tickdsl.pruning.criteria.shared_batches import SharedBatches, share_batches
from tickdsl.training.named_tensors import run_network

#: Probabilities of this many images or tokens are compared at once.
_ROWS = 1 << 16


class _LayerRemovalCriterion(Criterion):
    """The change of a network's output when a layer is bypassed, in eval mode.

    Jordao et al. (2023) zero the last batch norm of a residual block, which leaves the same identity. The sample is 500
    images per class, as in their code.
    """

    units = ("layers", "blocks")
    needs = ("data",)
    shares_batches = True
    sample = Sample(per_class=500)

    def outputs(self, context: ScoringContext, module: nn.Module, batches: SharedBatches) -> Tensor:
        """The outputs to compare, float64 [N, ...]."""
        raise NotImplementedError

    def distance(self, whole: Tensor, without: Tensor, batches: SharedBatches) -> Tensor:
        """The distance between the outputs of the whole network and of the one without a layer."""
        raise NotImplementedError

    def layers(self, context: ScoringContext, blocks: Sequence[Block]) -> Tensor:
        with torch.no_grad():
            batches = share_batches(context, context.batches(self.sample))
            whole = self.outputs(context, context.network(context.structure).eval(), batches)
            distances = []
            for block in blocks:
                module = context.network(context.structure.remove_block(block.name)).eval()
                distances.append(self.distance(whole, self.outputs(context, module, batches), batches))
            return torch.stack(distances).cpu()


class Cka(_LayerRemovalCriterion):
    """1 - linear CKA (Kornblith et al. 2019) of the classifier's input, with and without a layer (Pons et al. 2024)."""

    name = "cka"

    def outputs(self, context: ScoringContext, module: nn.Module, batches: SharedBatches) -> Tensor:
        heads = [info.module for info in context.graph.weights.values() if info.is_output]
        if not heads:
            raise TickdslError("`by cka` needs a classifier layer, but the network has none", "use `by kl`")
        features: list[Tensor] = []

        def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
            features.append(args[0].flatten(1).double())

        handle = module.get_submodule(heads[-1]).register_forward_pre_hook(hook)
        for images, _ in batches.own:
            run_network(module, images)
        handle.remove()
        return batches.all_rows(torch.cat(features))

    def distance(self, whole: Tensor, without: Tensor, batches: SharedBatches) -> Tensor:
        return 1 - linear_cka(whole, without)


class KlDivergence(_LayerRemovalCriterion):
    """KL(q, p) of the class probabilities without the layer (q) and with it (p) (CURL, Luo & Wu 2020).

    For outputs [N, T, V] of sequences, the classes are the last dimension, and the mean is over tokens.
    """

    name = "kl"

    def outputs(self, context: ScoringContext, module: nn.Module, batches: SharedBatches) -> Tensor:
        outputs = [run_network(module, images) for images, _ in batches.own]
        if outputs[0].dim() == 3:  # [N, T, V] of sequences, of which there are many numbers
            return torch.cat([one.log_softmax(-1).flatten(0, 1) for one in outputs])
        return torch.cat([one.double() for one in outputs]).log_softmax(1)

    def distance(self, whole: Tensor, without: Tensor, batches: SharedBatches) -> Tensor:
        parts = zip(torch.split(whole, _ROWS), torch.split(without, _ROWS), strict=True)
        sums = [(one.double().exp() * (one.double() - other.double())).sum(1) for other, one in parts]
        return batches.mean(torch.cat(sums))


def linear_cka(x: Tensor, y: Tensor) -> Tensor:
    """Linear centred kernel alignment of features [N, P] and [N, Q], in [0, 1]; 0 if either is constant.

    Invariant to rotations, isotropic scaling and shifts. Source: Kornblith et al. 2019, section 3.
    """
    x, y = (features - features.mean(0, keepdim=True) for features in (x, y))
    if max(x.shape[1], y.shape[1]) > len(x):
        x, y = x @ x.T, y @ y.T  # the same inner products, over images instead of features
        similarity, normaliser = (x * y).sum(), x.norm() * y.norm()
    else:
        similarity, normaliser = (y.T @ x).square().sum(), (x.T @ x).norm() * (y.T @ y).norm()
    return similarity / normaliser if normaliser > 0 else torch.zeros_like(similarity)
