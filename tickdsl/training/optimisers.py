"""A recipe's optimiser, in torch's fused form: one operation a step for all parameters."""

from __future__ import annotations

import torch
from torch import nn

from tickdsl.training.recipes import Recipe


def build(parameters: list[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """The optimiser with fresh state; its rate and momentum are set before every step."""
    match recipe.optimizer:
        case "sgd":
            return torch.optim.SGD(
                parameters, recipe.lr, recipe.momentum,
                weight_decay=recipe.decay, nesterov=recipe.nesterov, fused=True,
            )  # fmt: skip
        case "adam":
            return torch.optim.Adam(parameters, recipe.lr, weight_decay=recipe.decay, fused=True)
        case _:
            return torch.optim.AdamW(parameters, recipe.lr, weight_decay=recipe.decay, fused=True)


def set_momentum(optimizer: torch.optim.Optimizer, momentum: float) -> None:
    """Set SGD's momentum, or Adam's beta 1."""
    for group in optimizer.param_groups:
        if "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        else:
            group["momentum"] = momentum
