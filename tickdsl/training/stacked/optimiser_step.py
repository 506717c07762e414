"""The optimiser step of a stacked network, and the view of it that each stacked training has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tickdsl.training.stacked.network import StackedNetwork
from tickdsl.training.step.losses import TrainingLoss, training_loss
from tickdsl.training.step.masks import Masks
from tickdsl.training.step.optimiser_step import OptimiserStep
from tickdsl.training.tasks import Task
from tickdsl.training.training_run import TrainingRun


class StackedStep(OptimiserStep):
    """Optimiser steps of a stacked network, with the gradient of each network's own mean loss; `loss_sum` is [K]."""

    def __init__(self, runs: Sequence[TrainingRun]) -> None:
        first, count = runs[0], len(runs)
        network = self.network = StackedNetwork([run.model for run in runs])
        super().__init__(
            network, first.recipe, Masks(network, _masks(network, runs)), None, first.device, first.autocast,
            task=first.task, class_weights=first.class_weights,
        )  # fmt: skip
        self.loss_sum = torch.zeros(count, dtype=torch.float64, device=first.device)
        self._loss_gradient = torch.ones(count, device=first.device)

    def _bind_loss(self, task: Task, class_weights: Tensor | None) -> TrainingLoss:
        return training_loss(task, self._recipe, class_weights, stacked=True)


def _masks(network: StackedNetwork, runs: Sequence[TrainingRun]) -> dict[str, Tensor]:
    """The trainings' masks, stacked, by parameter name; all True for a training without a mask of that parameter."""
    masks = {}
    for name, parameter in network.template.named_parameters():
        if any(name in run.masks for run in runs):
            stacked_mask = torch.ones(parameter.shape, dtype=torch.bool, device=parameter.device)
            for member_mask, run in zip(stacked_mask, runs, strict=True):
                if name in run.masks:
                    member_mask.copy_(run.masks[name])
            masks[f"template.{name}"] = stacked_mask
    return masks


class OptimiserSlice:
    """One training's slice of a stacked step's state: an `OptimiserState` for its `TrainingRun`."""

    def __init__(self, step: StackedStep, member: int) -> None:
        self._optimizer, self._member = step.optimizer, member
        self.loss_sum = step.loss_sum[member]

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's state in the form of a single training."""
        state_dict = self._optimizer.state_dict()
        member_state = {
            index: {name: value[self._member] if _is_stacked(value) else value for name, value in values.items()}
            for index, values in state_dict["state"].items()
        }
        return {**state_dict, "state": member_state}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned. Values that all trainings share are taken from the first one restored."""
        parameters = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        if not self._optimizer.state:
            stacked_state = {
                index: {
                    name: torch.empty_like(parameters[index]) if _is_stacked(value) else value
                    for name, value in values.items()
                }
                for index, values in state["state"].items()
            }
            self._optimizer.load_state_dict({**state, "state": stacked_state})
        for index, values in state["state"].items():
            for name, value in values.items():
                if _is_stacked(value):
                    self._optimizer.state[parameters[index]][name][self._member].copy_(value)


def _is_stacked(value: object) -> bool:
    """Whether a value has a slice per training; Adam's step count is one number for all."""
    return isinstance(value, Tensor) and value.dim() > 0
