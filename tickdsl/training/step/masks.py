"""Masks that keep pruned weights at zero: applied after every optimiser step, and checked at the end of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from tickdsl.plurals import agreeing, plural


class MaskError(RuntimeError):
    """A pruned weight is not zero, or a mask matches no parameter: a bug in tickdsl, never a fault of a plan."""


def as_numbers(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A bool tensor as 0 and 1; converting its bytes takes a quarter of the time on a CPU."""
    return mask.view(torch.uint8).to(dtype)


class Masks:
    """Boolean masks by parameter name (True: kept).

    Raises MaskError if a mask's name, shape or dtype matches no parameter.
    """

    def __init__(self, model: nn.Module, masks: Mapping[str, Tensor]) -> None:
        parameters = dict(model.named_parameters())
        for name, mask in masks.items():
            if name not in parameters or parameters[name].shape != mask.shape or mask.dtype != torch.bool:
                raise MaskError(f"the mask of {name} matches no parameter")
        self._names = list(masks)
        self._parameters: list[Tensor] = [parameters[name] for name in masks]
        # In the parameter's dtype and memory format, so that multiplying is fast.
        self._kept = [
            torch.empty_like(parameter, requires_grad=False).copy_(masks[name])
            for name, parameter in zip(self._names, self._parameters, strict=True)
        ]

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters with a mask."""
        return tuple(self._names)

    def kept(self, name: str) -> Tensor:
        """The mask of a parameter as it is now, bool."""
        return self.factors(name) != 0

    def factors(self, name: str) -> Tensor:
        """What a parameter is multiplied with after every step: 1 where a weight is kept, else 0. Not a copy."""
        return self._kept[self._names.index(name)]

    def factors_of(self, parameters: Sequence[Tensor]) -> list[Tensor | None]:
        """The factors of these parameters, None for those without a mask. Not copies."""
        kept = {id(parameter): factor for parameter, factor in zip(self._parameters, self._kept, strict=True)}
        return [kept.get(id(parameter)) for parameter in parameters]

    def current(self) -> dict[str, Tensor]:
        """All masks as they are now."""
        return {name: self.kept(name) for name in self._names}

    @torch.no_grad()
    def replace(self, masks: Mapping[str, Tensor]) -> None:
        """Set the masks of some parameters, in place, since a CUDA graph reads them, and set pruned weights to zero."""
        for name, mask in masks.items():
            self._kept[self._names.index(name)].copy_(mask.view(torch.uint8))
        self.apply()

    @torch.no_grad()
    def apply(self) -> None:
        """Set all pruned weights to zero, in one operation."""
        if self._kept:
            torch._foreach_mul_(self._parameters, self._kept)

    @torch.no_grad()
    def check(self) -> None:
        """Raise MaskError unless every pruned weight is exactly zero."""
        for name, parameter, kept in zip(self._names, self._parameters, self._kept, strict=True):
            nonzero = int(((kept == 0) & (parameter != 0)).sum())
            if nonzero:
                raise MaskError(
                    f"{plural(nonzero, 'pruned weight')} of {name} {agreeing(nonzero, 'is')} not zero after training"
                )
