"""How alike two networks are, weight by weight: `report distance, sign-agreement, mask-overlap`.

They are compared in the coordinates of the dense network: units that a network has lost count as masked weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from tickdsl.graph.indexing import all_kept_indices, removed_parameters
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.plan.model import DISTANCE, MASK_OVERLAP, SIGN_AGREEMENT

Weights = Mapping[str, Tensor]
Masks = Mapping[str, Tensor]


def dense_weights(graph: ModelGraph, structure: Structure, state: Mapping[str, Tensor]) -> tuple[Weights, Masks]:
    """The weights of a compact network in the shapes of the dense one, 0 where none is left, and where one is left."""
    indices, removed = all_kept_indices(graph, structure), removed_parameters(graph, structure)
    weights, masks = {}, {}
    for name, info in graph.weights.items():
        values = np.zeros(info.shape)
        kept = np.zeros(info.shape, dtype=bool)
        if name not in removed:
            index = indices.get(name, [None] * len(info.shape))
            places = np.ix_(*(np.arange(n) if k is None else k for n, k in zip(info.shape, index, strict=True)))
            values[places] = state[name].detach().double().cpu().numpy()
            kept[places] = True
            kept &= structure.masks.get(name, True)
        weights[name] = torch.from_numpy(values * kept)
        masks[name] = torch.from_numpy(kept)
    return weights, masks


def from_origin(metric: str, weights: Weights, masks: Masks, origin: Weights) -> dict[str, float]:
    """How far the weights that are left have moved from those of `origin`, a network that has them all.

    `distance`: the norm of their change, divided by the norm of what they were. `sign-agreement`: the share of them
    that has the sign it had; those that were 0 do not count. There is no `mask-overlap` with a dense network.
    """
    now, then = _joined(weights, masks), _joined(origin, masks)
    if metric == DISTANCE:
        return {DISTANCE: _ratio((now - then).norm(), then.norm())}
    if metric == SIGN_AGREEMENT:
        signed = then != 0
        return {SIGN_AGREEMENT: _ratio((now.sign() == then.sign())[signed].sum(), signed.sum())}
    return {}


def between(metric: str, first: tuple[Weights, Masks], second: tuple[Weights, Masks]) -> dict[str, float]:
    """How alike two networks are, as figures with the suffix `.seeds`; of masks without one.

    `distance`: the norm of the difference of all weights, divided by the mean of both norms. `sign-agreement`: the
    share of the weights which both have that has the same sign in both. `mask-overlap`: of the weights that either has,
    the share that both have, and as `.chance` the same for the expected counts of masks with as many weights in every
    layer that are drawn independently; no figures for two dense networks.
    """
    (weights, masks), (others, other_masks) = first, second
    everywhere = {name: torch.ones_like(mask) for name, mask in masks.items()}
    both = {name: mask & other_masks[name] for name, mask in masks.items()}
    if metric == DISTANCE:
        here, there = _joined(weights, everywhere), _joined(others, everywhere)
        return {f"{DISTANCE}.seeds": _ratio((here - there).norm(), (here.norm() + there.norm()) / 2)}
    if metric == SIGN_AGREEMENT:
        here, there = _joined(weights, both), _joined(others, both)
        return {f"{SIGN_AGREEMENT}.seeds": _ratio((here.sign() == there.sign()).sum(), torch.tensor(here.numel()))}
    if all(bool(mask.all()) for mask in (*masks.values(), *other_masks.values())):
        return {}
    shared = sum(int(mask.sum()) for mask in both.values())
    total = sum(int(mask.sum()) + int(other_masks[name].sum()) for name, mask in masks.items())
    expected = sum(int(m.sum()) * int(other_masks[name].sum()) / m.numel() for name, m in masks.items())
    return {MASK_OVERLAP: shared / (total - shared), f"{MASK_OVERLAP}.chance": expected / (total - expected)}


def _joined(weights: Weights, masks: Masks) -> Tensor:
    return torch.cat([weights[name][mask] for name, mask in masks.items()])


def _ratio(part: Tensor, whole: Tensor) -> float:
    return float(part) / float(whole) if float(whole) else 0.0
