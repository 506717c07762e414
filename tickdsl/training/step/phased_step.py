"""Optimiser steps with several phases: parts of a network in turn, each by its own loss and optimiser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tickdsl.errors import TickdslError
from tickdsl.training.parallel.ranks import Ranks
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.step import optimisers
from tickdsl.training.step.masks import Masks
from tickdsl.training.step.optimiser_step import OptimiserStep
from tickdsl.training.tasks import Phase, Task


class PhaseOptimisers:
    """The optimisers of all phases as one object, with what `OptimiserStep` needs of an optimiser."""

    def __init__(self, optimisers_by_phase: Mapping[str, Any]) -> None:
        self.by_phase = dict(optimisers_by_phase)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The parameter groups of all optimisers."""
        return [group for optimiser in self.by_phase.values() for group in optimiser.param_groups]

    @property
    def state(self) -> dict[Tensor, Any]:
        """The state of all optimisers, by parameter."""
        return {
            parameter: state for optimiser in self.by_phase.values() for parameter, state in optimiser.state.items()
        }

    def set_rate(self, lr: Any) -> None:
        """Set the learning rate of the next step."""
        for optimiser in self.by_phase.values():
            optimisers.set_rate(optimiser, lr)

    def state_dict(self) -> dict[str, Any]:
        """The states of the optimisers by the names of their phases."""
        return {name: optimiser.state_dict() for name, optimiser in self.by_phase.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name, optimiser in self.by_phase.items():
            optimiser.load_state_dict(state[name])


class PhasedStep(OptimiserStep):
    """A step of a task with phases: each takes the gradient of its loss for its own part, and updates that.

    The loss that is summed is the sum of the phases'. All optimisers follow the recipe; a network's other parts are
    neither updated nor given a gradient. Raises TickdslError if a phase has nothing to train, if a parameter belongs to
    no phase, or if the recipe compiles the network or cuts batches, since the phases
    run its parts by themselves.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        masks: Masks,
        device: torch.device,
        autocast: torch.dtype | None,
        compile: bool,
        task: Task,
        ranks: Ranks | None = None,
    ) -> None:
        if compile:
            raise TickdslError(
                f"compile=on: the task `{task.name}` trains the parts of its network in turn, which are not compiled",
                "leave out `compile`",
            )
        if recipe.accumulate > 1:
            raise TickdslError(
                f"accumulate={recipe.accumulate}: the task `{task.name}` trains the parts of its network in turn, "
                "each on the whole batch",
                "leave out `accumulate`, or use a smaller `batch=`",
            )
        self._phases: list[tuple[Phase, list[nn.Parameter], Any]] = []
        _require_phases_train(model, masks, task)
        super().__init__(model, recipe, masks, None, device, autocast, task=task, ranks=ranks)

    def _build_optimizer(self, recipe: Recipe, task: Task) -> Any:
        for phase in task.phases:
            parameters = list(phase.parameters(self._model).values())
            self._phases.append((phase, parameters, optimisers.build(parameters, recipe)))
        return PhaseOptimisers({phase.name: optimiser for phase, _, optimiser in self._phases})

    def _compute(self, images: Tensor, targets: Tensor, soft_targets: Tensor | None = None) -> None:
        losses = []
        for phase, parameters, optimiser in self._phases:
            losses.append(self._phase_backward(phase, parameters, images, targets))
            self._apply_terms()
            optimisers.update(optimiser)
            for parameter in parameters:
                parameter.grad = None  # a phase leaves nothing behind
            self._masks.apply()
        self._update_average()
        self._add_losses(losses, targets)

    def _backward(self, images: Tensor, targets: Tensor, soft_targets: Tensor | None = None) -> None:
        losses = [self._phase_backward(phase, parameters, images, targets) for phase, parameters, _ in self._phases]
        self._add_losses(losses, targets)

    def _phase_backward(
        self, phase: Phase, parameters: Sequence[nn.Parameter], images: Tensor, targets: Tensor
    ) -> Tensor:
        """Compute the gradients of a phase for its own part; returns its loss."""
        with self._autocast_context():
            if self._shared is None:
                loss = phase.loss(self._model, images, targets)
            else:
                loss = self._shared.phase_loss(phase, self._share, self._model, images, targets)
        for parameter, gradient in zip(parameters, _gradients(phase, loss, parameters), strict=True):
            parameter.grad = gradient
        detached = loss.detach()
        if self._shared is not None:
            self._shared.add_up(parameters, detached)
        return detached

    def _add_losses(self, losses: Sequence[Tensor], targets: Tensor) -> None:
        total = losses[0]
        for loss in losses[1:]:
            total = total + loss
        weight = self._weight(targets) if self._shared is None else self._weight(targets[:1]) * self._share.batch
        self.loss_sum.add_(total, alpha=weight)


def _gradients(phase: Phase, loss: Tensor, parameters: Sequence[nn.Parameter]) -> tuple[Tensor | None, ...]:
    """The gradients of a phase's loss for its own part. Raises TickdslError if it has none."""
    found: tuple[Tensor | None, ...] = ()
    if loss.requires_grad:
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
    if all(gradient is None for gradient in found):
        raise TickdslError(
            f"the loss of the phase `{phase.name}` does not depend on the part `{phase.part}`: it trains nothing",
            "let the loss run this part with gradients",
        )
    return found


def _require_phases_train(model: nn.Module, masks: Masks, task: Task) -> None:
    """Raise TickdslError if a phase has no weights left, or if no phase trains a parameter."""
    kept = {name: int(mask.sum()) for name, mask in masks.current().items()}
    trained: set[str] = set()
    for phase in task.phases:
        parameters = phase.parameters(model)
        trained.update(parameters)
        weights = [name for name, parameter in parameters.items() if parameter.dim() > 1]
        if weights and not any(kept.get(name, 1) for name in weights):
            raise TickdslError(
                f"every weight of `{phase.part}` is pruned: the phase `{phase.name}` has nothing to train",
                f"prune fewer weights of it, or keep them with `except {phase.part}.**`",
            )
    left = [name for name, p in model.named_parameters() if p.requires_grad and name not in trained]
    if left:
        parts = ", ".join(f"`{phase.part}`" for phase in task.phases)
        raise TickdslError(
            f"no phase of the task `{task.name}` trains {left[0]}: it trains {parts}",
            "move the layer into one of these parts, or freeze it with `requires_grad_(False)`",
        )
