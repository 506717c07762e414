"""A recipe's optimiser, in torch's fused implementation: one operation per step for all parameters."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.step import own_optimisers
from tickdsl.training.step.own_optimisers import OwnOptimiser


class _WithoutDynamo(torch.optim.Optimizer):
    """An optimiser of torch that is never compiled.

    torch keeps Dynamo out of these methods, for which it imports Dynamo, and that takes as long as importing torch.
    """

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)


class FusedSGD(_WithoutDynamo, torch.optim.SGD):
    """torch's fused SGD with an `update` that skips torch's hooks, profiling and sorting of parameters.

    These take 5% of the time of a small network's step (benchmarks/loop.py).
    """

    def __init__(self, parameters: list[nn.Parameter], recipe: Recipe) -> None:
        super().__init__(
            parameters, recipe.lr, recipe.momentum, weight_decay=recipe.decay, nesterov=recipe.nesterov, fused=True
        )
        self._uniform = len({(parameter.device, parameter.dtype) for parameter in parameters}) == 1

    @torch.no_grad()
    def update(self) -> None:
        """Take the same step as `step`, with bit-identical results."""
        (group,) = self.param_groups
        parameters, momentum = group["params"], group["momentum"]
        gradients = [parameter.grad for parameter in parameters]
        buffers = [self.state[parameter].get("momentum_buffer") for parameter in parameters] if momentum else []
        # A captured step has its rate in a tensor, and no overhead to skip.
        if not self._uniform or isinstance(group["lr"], Tensor) or _any_missing(gradients):
            self.step()
            return
        is_first_step = bool(buffers) and all(buffer is None for buffer in buffers)
        if is_first_step:
            buffers = [torch.empty_like(gradient) for gradient in gradients]
            for parameter, buffer in zip(parameters, buffers, strict=True):
                self.state[parameter]["momentum_buffer"] = buffer
        elif _any_missing(buffers):
            self.step()
            return
        torch._fused_sgd_(
            parameters, gradients, buffers,
            weight_decay=group["weight_decay"], momentum=momentum, lr=group["lr"], dampening=group["dampening"],
            nesterov=group["nesterov"], maximize=group["maximize"],
            is_first_step=is_first_step,
        )  # fmt: skip


class FusedAdam(_WithoutDynamo, torch.optim.Adam):
    """torch's fused Adam with an `update` that skips torch's hooks, profiling and Dynamo."""

    @torch.no_grad()
    def update(self) -> None:
        """Take the same step as `step`, with bit-identical results."""
        _take_adam_step(self)


class FusedAdamW(FusedAdam, torch.optim.AdamW):
    """The same with decoupled weight decay."""


_take_adam_step = inspect.unwrap(torch.optim.Adam.step)


def _any_missing(tensors: list[Any]) -> bool:
    return any(tensor is None for tensor in tensors)


def build(parameters: list[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer | OwnOptimiser:
    """Build the recipe's optimiser with fresh state; its learning rate and momentum are set before every step.

    Raises PluginError if an optimiser of one's own cannot be used for these parameters.
    """
    if recipe.has_own_optimiser:
        return own_optimisers.build(parameters, recipe)
    match recipe.optimizer:
        case "sgd":
            return FusedSGD(parameters, recipe)
        case "adam":
            return FusedAdam(parameters, recipe.lr, _betas(recipe), weight_decay=recipe.decay, fused=True)
        case _:
            return FusedAdamW(parameters, recipe.lr, _betas(recipe), weight_decay=recipe.decay, fused=True)


def _betas(recipe: Recipe) -> tuple[float, float]:
    return recipe.beta1, recipe.beta2


def set_rate(optimizer: Any, lr: float | Tensor) -> None:
    """Set the learning rate of the next step."""
    if isinstance(optimizer, torch.optim.Optimizer):
        for group in optimizer.param_groups:
            group["lr"] = lr
    else:
        optimizer.set_rate(lr)


def update(optimizer: torch.optim.Optimizer | OwnOptimiser) -> None:
    """Take an optimiser step, without what torch does around it if possible."""
    if isinstance(optimizer, FusedSGD | FusedAdam):
        optimizer.update()
    else:
        optimizer.step()


def set_momentum(optimizer: Any, momentum: float) -> None:
    """Set SGD's momentum, or Adam's beta 1."""
    for group in optimizer.param_groups:
        if "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        else:
            group["momentum"] = momentum
