"""Terms that are added to the gradients of a step before the optimiser reads them, and sums over gradients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from tickdsl.training.step.masks import Masks

#: The layers whose scale `bn-l1=` penalises.
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class GradientTerm(Protocol):
    """Reads or changes the gradients of every step, after the backward pass and before the update.

    It reads tensors that stay in place, since a CUDA graph records it.
    """

    def apply(self) -> None:
        """Read or change the gradients."""

    def mutated(self) -> Iterable[Tensor]:
        """The tensors of its own that it changes."""


class BatchNormL1:
    """An L1 penalty on the scales of batch norm, which makes them sparse (network slimming, Liu et al. 2017).

    Adds `strength` x sign(scale) to their gradients, as the authors' code does.
    """

    def __init__(self, model: nn.Module, strength: float) -> None:
        self._strength = strength
        self._scales: list[nn.Parameter] = batch_norm_scales(model)

    @torch.no_grad()
    def apply(self) -> None:
        scales = [scale for scale in self._scales if scale.grad is not None]
        if scales:
            gradients = [scale.grad for scale in scales]
            signs = [scale.sign() for scale in scales]
            torch._foreach_add_(gradients, signs, alpha=self._strength)  # type: ignore[arg-type]

    def mutated(self) -> Iterable[Tensor]:
        return ()


def batch_norm_scales(model: nn.Module) -> list[nn.Parameter]:
    """The trainable scales of the batch norms of a network, each once."""
    scales = [module.weight for module in model.modules() if isinstance(module, _BATCH_NORMS)]
    return list(dict.fromkeys(scale for scale in scales if scale is not None and scale.requires_grad))


class BiasRate:
    """Trains biases, those of norms too, at a multiple of the learning rate (Page 2018; Jordan 2024).

    Their gradients are multiplied, so their weight decay stays that of the weights.
    """

    def __init__(self, model: nn.Module, factor: float) -> None:
        self._factor = factor
        named = model.named_parameters()
        self._biases = [p for name, p in named if name.rpartition(".")[2] == "bias" and p.requires_grad]

    @torch.no_grad()
    def apply(self) -> None:
        gradients = [bias.grad for bias in self._biases if bias.grad is not None]
        if gradients:
            torch._foreach_mul_(gradients, self._factor)

    def mutated(self) -> Iterable[Tensor]:
        return ()


class NormClip:
    """Scales the gradient down to the norm `limit` if it is longer (Pascanu, Mikolov & Bengio 2013).

    The norm is that of the gradients of all parameters together, without those of pruned weights, which train nothing.
    Parameters without a gradient, such as those of parts that another phase trains, do not count.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], masks: Masks, limit: float) -> None:
        self._parameters, self._limit = list(parameters), limit
        self._factors = masks.factors_of(self._parameters)

    @torch.no_grad()
    def apply(self) -> None:
        gradients, counted = [], []
        for parameter, factor in zip(self._parameters, self._factors, strict=True):
            if parameter.grad is not None:
                gradients.append(parameter.grad)
                counted.append(parameter.grad if factor is None else parameter.grad * factor)
        if gradients:
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(counted)))
            # Not by a condition, which would wait for the device. The small number is that of torch's own function.
            torch._foreach_mul_(gradients, (self._limit / (norm + 1e-6)).clamp(max=1.0))

    def mutated(self) -> Iterable[Tensor]:
        return ()


class GrowingPenalty:
    """An L2 penalty on chosen weights: adds `factor` x weight to their gradients, in one operation per step.

    The factor starts at 0; `set_factor` changes it between steps.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], chosen: Sequence[Tensor]) -> None:
        self._parameters = list(parameters)
        # In the parameter's dtype and memory format; the factors, 0 where a weight is not chosen, stay in place.
        self._chosen = [
            torch.empty_like(parameter, requires_grad=False).copy_(mask)
            for parameter, mask in zip(parameters, chosen, strict=True)
        ]
        self._factors = [torch.zeros_like(chosen) for chosen in self._chosen]
        self._factor = 0.0

    @torch.no_grad()
    def set_factor(self, factor: float) -> None:
        """Set the factor of the next steps; without a change, this does nothing."""
        if factor != self._factor:
            torch._foreach_copy_(self._factors, torch._foreach_mul(self._chosen, factor))
            self._factor = factor

    @torch.no_grad()
    def apply(self) -> None:
        terms = [(p, factor) for p, factor in zip(self._parameters, self._factors, strict=True) if p.grad is not None]
        if terms:
            parameters, factors = [p for p, _ in terms], [factor for _, factor in terms]
            gradients = [p.grad for p in parameters]
            torch._foreach_addcmul_(gradients, parameters, factors)  # type: ignore[arg-type]

    def mutated(self) -> Iterable[Tensor]:
        return ()


class MovementScores:
    """The movement of weights: the sum of -weight x gradient over all steps (Sanh, Wolf & Rush 2020, equation 5).

    A weight that moves away from 0 has a high score. `scores` are in the order of the parameters. The paper's scores
    have the learning rate as a factor, which does not change their order while it is constant.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self.scores = [torch.zeros_like(parameter, requires_grad=False) for parameter in parameters]

    @torch.no_grad()
    def apply(self) -> None:
        moving = [(p, score) for p, score in zip(self._parameters, self.scores, strict=True) if p.grad is not None]
        if moving:
            parameters, scores = [p for p, _ in moving], [score for _, score in moving]
            gradients = [p.grad for p in parameters]
            torch._foreach_addcmul_(scores, parameters, gradients, value=-1.0)  # type: ignore[arg-type]

    def mutated(self) -> Iterable[Tensor]:
        return self.scores
