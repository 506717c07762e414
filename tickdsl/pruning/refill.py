"""Refill: whole filters in place of single weights (Chen et al. 2022, "Coarsening the Granularity", algorithm 1)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tickdsl.errors import TickdslError
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import with_compact_masks
from tickdsl.pruning.convolution_masks import ConvolutionMask, convolution_masks, folded_masks, require_masks
from tickdsl.pruning.criteria.backpropagation import batch_losses, has_initial_statistics, use_batch_statistics
from tickdsl.pruning.criteria.protocol import ScoringContext
from tickdsl.pruning.criteria.shared_batches import share_batches

#: The images on which the saliency of filters is taken.
SALIENCY_IMAGES, SALIENCY_BATCH = 1_024, 256


def refill_filters(context: ScoringContext, args: Mapping[str, Any], batches: Sequence[Any] = ()) -> Structure:
    """The structure in which every convolution with a mask has whole filters only.

    `args` are the arguments of a `refill` step: `by`, and `extra` (a share). Filters are ranked by the L1 norm of their
    weights (`l1`), the number of their weights (`count`), or by the sum of |output x dL/d output| over the images of
    `batches` (`saliency`). The highest keep all their weights, pruned ones included, and the others none.

    Raises TickdslError if no convolution has a mask, or filters cannot be ranked.
    """
    masks = convolution_masks(context.graph, context.structure)
    require_masks(masks, "refill")
    scores = _scores(context, masks, args["by"], batches)
    rows = {}
    for mask in masks:
        chosen = torch.zeros(len(mask.rows), dtype=torch.bool)
        # A stable sort: of equal filters, those with lower indices come first.
        order = np.argsort(-scores[mask.name].numpy(), kind="stable")
        chosen[torch.from_numpy(order[: filters_to_fill(mask.rows, args.get("extra", 0.0))].copy())] = True
        rows[mask.name] = chosen[:, None].expand_as(mask.rows)
    return with_compact_masks(context.graph, context.structure, folded_masks(masks, rows))


def filters_to_fill(rows: Tensor, extra: float = 0.0) -> int:
    """How many filters have about as many weights as a mask [filters, weights of one] leaves, at least one.

    extra: the share of the other filters that is added (Refill+).
    """
    filters, weights = rows.shape
    kept = Fraction(int(rows.sum()), weights)
    share = Fraction(extra).limit_denominator(10**9)
    return min(filters, max(1, math.floor(kept + share * (filters - kept) + Fraction(1, 2))))


def _scores(
    context: ScoringContext, masks: Sequence[ConvolutionMask], by: str, batches: Sequence[Any]
) -> dict[str, Tensor]:
    """One score per filter of each convolution, float64."""
    match by:
        case "count":
            return {mask.name: mask.rows.sum(1).double() for mask in masks}
        case "l1":
            found = {}
            for mask in masks:
                weight = context.state[mask.name].detach().cpu().double().movedim(mask.filter_dim, 0)
                found[mask.name] = weight.reshape(len(weight), -1).abs().sum(1)  # pruned weights are zero here
            return found
    return _saliencies(context, {context.graph.weights[mask.name].module: mask.name for mask in masks}, batches)


def _saliencies(context: ScoringContext, layers: Mapping[str, str], batches: Sequence[Any]) -> dict[str, Tensor]:
    """The sum of |output x dL/d output| over images and positions, for each filter. layers: modules and weights."""
    network = context.network(context.structure).eval()
    if has_initial_statistics(network):
        use_batch_statistics(network)
    outputs: list[tuple[str, Tensor]] = []

    def record(path: str) -> Any:
        def hook(layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            output.retain_grad()
            outputs.append((layers[path], output))
            return output.clone()  # later code may write to it

        return hook

    handles = [network.get_submodule(path).register_forward_hook(record(path)) for path in layers]
    totals: dict[str, Tensor] = {}
    try:
        for parameter in network.parameters():
            parameter.requires_grad_(True)
        shared = share_batches(context, batches)
        for loss in batch_losses(context, network, shared):
            torch.autograd.backward(loss)
            for name, output in outputs:
                if output.grad is None:
                    continue
                dims = [0, *range(2, output.dim())]
                score = (output.detach() * output.grad).abs().sum(dims).double().cpu()
                totals[name] = totals[name] + score if name in totals else score
            outputs.clear()
    finally:
        for handle in handles:
            handle.remove()
    totals = shared.add_up_by_name(totals)
    missing = [name for name in layers.values() if name not in totals or not bool(torch.isfinite(totals[name]).all())]
    if missing:
        raise TickdslError(
            f"`refill … by saliency` cannot rank the filters of {missing[0].removesuffix('.weight')}: no finite "
            "gradient reaches them",
            "use `by l1` or `by count`",
        )
    return totals
