"""Gradients of gates: factors of 1 at the outputs of units, which would be 0 without the unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from tickdsl.graph.model import ChannelGroup, Slice
from tickdsl.pruning.criteria.backpropagation import ByName, prunable_weights
from tickdsl.pruning.criteria.protocol import Criterion, ScoringContext
from tickdsl.pruning.criteria.score_aggregation import flatten_rows, sum_scores


def gated_parameters(context: ScoringContext, module: nn.Module, groups: Sequence[ChannelGroup]) -> ByName:
    """The parameters of a module that the gradients of its gates follow from, made to require gradients.

    These are convolution and linear weights and, where units are dims of queries and keys, what they are computed by.
    """
    parameters = dict(module.named_parameters())
    factors = {
        group_slice.parameter
        for group in groups
        for group_slice in group.slices
        if group_slice.role == "factor" and group_slice.parameter in parameters
    }
    weights = prunable_weights(context, module)
    return weights | {name: parameters[name].requires_grad_(True) for name in sorted(factors - weights.keys())}


def gate_gradients(
    context: ScoringContext, group: ChannelGroup, first_order: Mapping[str, Tensor], criterion: Criterion
) -> Tensor:
    """The derivatives of the loss by the gates of the remaining units of a group, float64 [units].

    `first_order` is p · dL/dp of the `gated_parameters` by name. A gate scales what the weights that read the unit get,
    so its derivative is the sum of w · dL/dw over them. Queries are read by keys and not by weights: a gate on one of
    their dims scales the rows and biases that compute it.

    Raises TickdslError if no weight reads a unit.
    """
    scored = [
        (group_slice, flatten_rows(first_order[group_slice.parameter], group_slice.dim).sum(1))
        for group_slice in group.slices
        if _is_gated(group_slice) and group_slice.parameter in first_order
    ]
    return sum_scores(context, group, scored, criterion.name, "weights that read it")


def _is_gated(group_slice: Slice) -> bool:
    return group_slice.role in ("consumer", "factor")
