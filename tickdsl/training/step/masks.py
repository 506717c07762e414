"""Weights that are gone stay gone: zeroed after every optimiser step, and checked when the training ends."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class MaskError(RuntimeError):
    """A pruned weight came back, or a mask fits no parameter: a fault of the engine, never of a plan."""


class Masks:
    """Boolean masks by parameter name (True: kept), applied in place, all at once."""

    def __init__(self, model: nn.Module, masks: Mapping[str, Tensor]) -> None:
        parameters = dict(model.named_parameters())
        for name, mask in masks.items():
            if name not in parameters or parameters[name].shape != mask.shape or mask.dtype != torch.bool:
                raise MaskError(f"the mask of {name} fits no parameter")
        self._names = list(masks)
        self._parameters: list[Tensor] = [parameters[name] for name in masks]
        # In the parameter's own type and memory format: a product of equal layouts is one pass.
        self._kept = [
            torch.empty_like(parameter, requires_grad=False).copy_(masks[name])
            for name, parameter in zip(self._names, self._parameters, strict=True)
        ]

    @torch.no_grad()
    def apply(self) -> None:
        """Zero the weights that are gone: one operation."""
        if self._kept:
            torch._foreach_mul_(self._parameters, self._kept)

    @torch.no_grad()
    def check(self) -> None:
        """Raise MaskError unless every weight that is gone is exactly zero."""
        for name, parameter, kept in zip(self._names, self._parameters, self._kept, strict=True):
            alive = int(((kept == 0) & (parameter != 0)).sum())
            if alive:
                raise MaskError(f"{alive} pruned weights of {name} are not zero after training")
