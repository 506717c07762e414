"""Criteria on the gradients of gates: those of Molchanov et al. (2019), and of Michel, Levy & Neubig (2019)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from tickdsl.graph.model import ChannelGroup
from tickdsl.pruning.criteria.backpropagation import ByName, mean_gradients, require_scores
from tickdsl.pruning.criteria.gates import gate_gradients, gated_parameters
from tickdsl.pruning.criteria.protocol import Criterion, Sample, ScoringContext
from tickdsl.pruning.criteria.shared_batches import SharedBatches, share_batches, unshared


class GateCriterion(Criterion):
    """Scores units by the derivatives of the loss by gates on them, batch by batch."""

    sample: Sample
    shares_batches = True

    def channels(self, context: ScoringContext, groups: Sequence[ChannelGroup]) -> list[Tensor]:
        totals: list[Tensor] = []
        batches = share_batches(context, context.batches(self.sample))
        for first_order in self._first_order(context, batches, groups):
            scores = [self.score(gate_gradients(context, group, first_order, self)) for group in groups]
            totals = [total + score for total, score in zip(totals, scores, strict=True)] if totals else scores
        batches.add_up(totals)
        return [total / batches.count for total in totals]

    def score(self, gradients: Tensor) -> Tensor:
        """The scores of units for one batch, from the derivatives by their gates, [units]."""
        raise NotImplementedError

    def _first_order(
        self, context: ScoringContext, batches: SharedBatches, groups: Sequence[ChannelGroup] = ()
    ) -> Iterator[ByName]:
        """p · dL/dp of the gated parameters, for each batch of this process."""
        module = context.network(context.structure).eval()
        parameters = gated_parameters(context, module, groups)
        for batch in batches.own:
            found = mean_gradients(context, module, parameters, unshared([batch]))
            yield {name: (parameters[name] * gradient).detach() for name, gradient in found.items()}


class Taylor(GateCriterion):
    """The squared first-order change of the loss when a unit is removed, averaged over batches.

    A weight's score is (w · dL/dw)². A filter's score is that of a gate on its channel: (sum of w · dL/dw over the
    weights that read it)². This is the paper's gate after batch norm and activation, and is exactly what is removed
    here; coupled layers share one gate. So do all dims of a head. Batch norm uses its running statistics. Only the sums
    over the batches so far are kept in memory. Source: Molchanov et al. 2019, section 3.
    """

    name = "taylor"
    units = ("weights", "filters", "neurons", "heads", "head-dims")
    needs = ("data", "gradients", "training")
    sample = Sample(total=30 * 128, batch=128)

    def weights(self, context: ScoringContext, names: Sequence[str]) -> list[Tensor]:
        totals = [torch.zeros(context.state[name].numel(), dtype=torch.float64) for name in names]
        batches = share_batches(context, context.batches(self.sample))
        for first_order in self._first_order(context, batches):
            require_scores(names, first_order, self.name)
            for total, name in zip(totals, names, strict=True):
                total += first_order[name].flatten().cpu().double().square()
        batches.add_up(totals)
        return [total / batches.count for total in totals]

    def score(self, gradients: Tensor) -> Tensor:
        return gradients.square()


class Gate(GateCriterion):
    """The mean absolute derivative of the loss by a gate on the unit, relative to the Euclidean norm of its layer's.

    Michel, Levy & Neubig 2019, section 4.1: the importance of a head of attention, E |dL/dg|, normalised by layer. The
    mean is over batches of 32, as in their code, where the paper takes it over samples.
    """

    name = "gate"
    units = ("filters", "neurons", "heads", "head-dims")
    needs = ("data", "gradients", "training")
    sample = Sample(total=64 * 32, batch=32)

    def channels(self, context: ScoringContext, groups: Sequence[ChannelGroup]) -> list[Tensor]:
        means = super().channels(context, groups)
        return [mean / mean.norm().clamp_min(torch.finfo(mean.dtype).tiny) for mean in means]

    def score(self, gradients: Tensor) -> Tensor:
        return gradients.abs()


class SignedGate(Gate):
    """The same with its sign, as in the code of super tickets (Liang et al. 2021), `calculate_importance`.

    A gate with a positive derivative lowers the loss if it is closed a little, one with a negative derivative raises
    it. The lowest scores, which go first, are of units whose removal raises the loss the most to first order: the
    paper defines the absolute value, its code sums signed gradients up.
    """

    name = "gate-signed"

    def score(self, gradients: Tensor) -> Tensor:
        return gradients
