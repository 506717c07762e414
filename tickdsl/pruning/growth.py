"""Put weights back that were pruned: `grow weights`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tickdsl.errors import TickdslError
from tickdsl.graph.indexing import all_kept_indices, removed_parameters
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact_masks, with_compact_masks
from tickdsl.plurals import plural
from tickdsl.pruning.amounts import round_half_up
from tickdsl.pruning.criteria.protocol import ScoringContext
from tickdsl.pruning.criteria.shared_batches import share_batches
from tickdsl.pruning.selection import lowest_of_pools
from tickdsl.training.named_tensors import run_network
from tickdsl.training.tasks import joint_loss

#: The images that the gradients of pruned weights are taken on.
GRADIENT_IMAGES, GRADIENT_BATCH = 1_024, 256


def grow_weights(
    context: ScoringContext, args: Mapping[str, Any], origin: Mapping[str, Tensor], batches: Sequence[Any] = ()
) -> Structure:
    """The structure with some pruned weights back in it; removed units and layers stay away.

    `args` are the arguments of a `grow` step: `share` of the pruned weights or a `count` of them, and `by`; without
    these, all come back. They are ranked over all layers: `magnitude` by their values in `origin` (a state dict of the
    compact network), `gradient` by the absolute gradient of the mean loss of `batches`, `random` by a draw. The highest
    come back.

    Raises TickdslError if no weight was pruned, or fewer than are to come back.
    """
    graph, structure = context.graph, context.structure
    masks = compact_masks(graph, structure)
    pruned = {name: ~mask for name, mask in masks.items()}
    total = sum(int(mask.sum()) for mask in pruned.values())
    count = round_half_up(args["share"] * total) if "share" in args else int(args.get("count", total))
    if not total or not count:
        raise TickdslError(
            "`grow weights` puts nothing back: "
            + ("no weight was pruned" if not total else f"the amount rounds to 0 of {plural(total, 'pruned weight')}"),
            "remove it, or prune weights before it" if not total else "use a larger amount",
        )
    if count > total:
        raise TickdslError(
            f"`grow weights {count}` puts back more than the {plural(total, 'pruned weight')}",
            "use a smaller amount, or `all`",
        )
    if count == total:
        return with_compact_masks(graph, structure, {name: torch.ones_like(mask) for name, mask in masks.items()})
    scores = _scores(context, args["by"], pruned, origin, batches)
    chosen = lowest_of_pools([-score for score in scores], count)
    grown = {}
    for (name, mask), positions in zip(masks.items(), chosen, strict=True):
        candidates = pruned[name].flatten().nonzero().flatten()
        flat = mask.flatten().clone()
        flat[candidates[torch.from_numpy(np.ascontiguousarray(positions))]] = True
        grown[name] = flat.view(mask.shape)
    return with_compact_masks(graph, structure, grown)


def _scores(
    context: ScoringContext,
    by: str,
    pruned: Mapping[str, Tensor],
    origin: Mapping[str, Tensor],
    batches: Sequence[Any],
) -> list[Tensor]:
    """The scores of the pruned weights of each parameter, flat, float64."""
    match by:
        case "magnitude":
            return [origin[name][mask].detach().abs().double() for name, mask in pruned.items()]
        case "random":
            return [
                torch.rand(int(mask.sum()), generator=context.generator, dtype=torch.float64)
                for mask in pruned.values()
            ]
    module = context.network(context.structure).eval()
    shared = share_batches(context, batches)
    for inputs, targets in shared.own:
        if context.phases:
            loss = joint_loss(module, inputs, targets, context.phases)
        else:
            loss = context.loss(run_network(module, inputs), targets)
        torch.autograd.backward(loss * len(targets))
    parameters = dict(module.named_parameters())
    found = [parameters[name].grad for name in pruned]
    shared.add_up([gradient for gradient in found if gradient is not None])
    if any(gradient is None or not bool(torch.isfinite(gradient).all()) for gradient in found):
        raise TickdslError("`grow … by gradient`: the gradients are not finite", "use `by magnitude` or `by random`")
    return [
        g.detach().cpu().abs().double()[mask] for g, mask in zip(found, pruned.values(), strict=True) if g is not None
    ]


def pruned_entries(graph: ModelGraph, structure: Structure, smaller: Structure) -> dict[str, Tensor]:
    """What `smaller` removes of the weights of `structure`: bool, in the shapes of the latter's compact network.

    Of removed channels, the weights that compute them are given: the rows of their convolutions and linear layers.
    """
    kept_before, gone = all_kept_indices(graph, structure), removed_parameters(graph, structure)
    found = {}
    for name, info in graph.weights.items():
        if name in gone:
            continue
        removed = np.zeros(info.shape, dtype=bool)
        for group, group_slice in graph.slices.get(name, ()):
            units = smaller.kept.get(group.name)
            if group_slice.role == "producer" and units is not None:
                index = group_slice.index[~np.isin(group_slice.unit, units)]
                removed[(slice(None),) * group_slice.dim + (index,)] = True
        for mask, sign in ((smaller.masks.get(name), True), (structure.masks.get(name), False)):
            if mask is not None and sign:
                removed |= ~mask
            elif mask is not None:
                removed &= mask
        for dim, kept in enumerate(kept_before.get(name, ())):
            if kept is not None:
                removed = np.take(removed, kept, axis=dim)
        if removed.any():
            found[name] = torch.from_numpy(np.ascontiguousarray(removed))
    return found
