"""Weights that are put together from two networks, or that noise is added to: `rewind signs|magnitudes`, `perturb`.

They concern the weights of convolutions and matrix products, which pruning counts; masked ones stay zero. Signs as what
a ticket consists of: Zhou, Lan, Liu & Yosinski, Deconstructing Lottery Tickets (NeurIPS 2019).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.pruning.criteria.protocol import masked_state

State = Mapping[str, Tensor]


def with_signs(graph: ModelGraph, structure: Structure, state: State, origin: State) -> dict[str, Tensor]:
    """The state dict of a compact network, whose weights have the signs of `origin`; where that is 0, they keep theirs.

    All other tensors stay as they are in `state`.
    """
    return {
        name: _signed(tensor, origin[name]) if _is_weight(graph, name) else tensor.clone()
        for name, tensor in masked_state(graph, structure, state).items()
    }


def with_magnitudes(graph: ModelGraph, structure: Structure, state: State, origin: State) -> dict[str, Tensor]:
    """The state dict `origin` of a compact network; its weights have the signs of `state`, their own where that is 0.

    All other tensors are those of `origin`.
    """
    return {
        name: _signed(tensor, state[name]) if _is_weight(graph, name) else tensor.clone()
        for name, tensor in masked_state(graph, structure, origin).items()
    }


def perturbed(
    graph: ModelGraph, structure: Structure, state: State, share: float, generator: torch.Generator
) -> dict[str, Tensor]:
    """The state dict of a compact network with Gaussian noise in its weights.

    The noise of a tensor has `share` of the norm of that tensor's weights, and is 0 where they are masked.
    """
    masked = masked_state(graph, structure, state)
    ones = masked_state(graph, structure, {name: torch.ones_like(tensor) for name, tensor in masked.items()})
    noisy: dict[str, Tensor] = {}
    for name in graph.weights:
        if name in masked:
            weights = masked[name].double()
            noise = torch.randn(weights.shape, generator=generator, dtype=torch.float64) * ones[name].double()
            scale = share * weights.norm() / noise.norm().clamp_min(torch.finfo(torch.float64).tiny)
            noisy[name] = (weights + scale * noise).to(masked[name].dtype)
    return {name: noisy.get(graph.aliases.get(name, name), tensor).clone() for name, tensor in masked.items()}


def _signed(magnitudes: Tensor, signs: Tensor) -> Tensor:
    return torch.where(signs == 0, magnitudes, torch.copysign(magnitudes, signs))


def _is_weight(graph: ModelGraph, name: str) -> bool:
    return graph.aliases.get(name, name) in graph.weights
