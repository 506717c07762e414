"""The interface of sparsifiers: what a training is told, and what works on its network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import attrs
import torch
from torch import Tensor, nn

from tickdsl.errors import TickdslError
from tickdsl.training.step.gradient_terms import GradientTerm
from tickdsl.training.step.masks import Masks, as_numbers
from tickdsl.training.step.own_optimisers import MOMENTUM_KEYS, OwnOptimiser

#: A step, and how many weights left the network and how many entered it there.
Change = tuple[int, int, int]


@attrs.frozen(eq=False)
class SparseNetwork:
    """A network in training, as a sparsifier sees it.

    parameters: by name, those with a mask, and those that the sparsifier names. masks: theirs, applied after every
    step. optimizer: whose state of a weight that enters the network is reset. seed: of the training's random choices.
    """

    model: nn.Module
    parameters: Mapping[str, nn.Parameter]
    masks: Masks
    optimizer: Any
    seed: int

    @torch.no_grad()
    def reset_state(self, name: str, entries: Tensor) -> None:
        """Set the optimiser's state (momentum, Adam's moments) of some entries of a parameter to 0.

        entries: bool, in the shape of the parameter.
        """
        parameter = self.parameters[name]
        others = as_numbers(~entries, parameter.dtype)
        for key, value in self.optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                value.mul_(others)  # `masked_fill_` takes ten times as long on a CPU
            elif isinstance(value, Tensor) and value.numel() > 1:
                raise TickdslError(
                    f"the optimiser keeps `{key}` {list(value.shape)} for {name} {list(parameter.shape)}: the state of "
                    "a weight that enters the network cannot be reset",
                    "use an optimiser with a state for every weight, such as `opt=adam`",
                )

    def momentum(self, name: str) -> Tensor | None:
        """The optimiser's momentum of a parameter (Adam: the first moment), None before the first step."""
        state = self.optimizer.state.get(self.parameters[name], {})
        momentum = next((state[key] for key in MOMENTUM_KEYS if isinstance(state.get(key), Tensor)), None)
        fits = momentum is not None and momentum.shape == self.parameters[name].shape
        if state and not fits and isinstance(self.optimizer, OwnOptimiser):
            raise TickdslError(
                f"`grow=momentum`: the optimiser keeps no moving average of the gradient for {name}; its state: "
                f"{', '.join(map(str, state))}",
                f"keep it as `{MOMENTUM_KEYS[0]}` or `{MOMENTUM_KEYS[1]}`, or use `grow=gradient`",
            )
        return momentum


class ActiveSparsifier:
    """Works on one network in training. The base class changes nothing.

    `gradient_terms` run in every step. `changes` are those made so far.
    """

    gradient_terms: Sequence[GradientTerm] = ()

    def __init__(self, network: SparseNetwork) -> None:
        self.network = network
        self.changes: list[Change] = []
        #: By step of a change after which other numbers of weights are left: how many, by parameter.
        self.left: list[tuple[int, dict[str, int]]] = []

    def before_step(self, step: int) -> None:
        """Called before step `step` (counted from 0)."""

    def penalty_at(self, step: int) -> float | None:
        """The factor of a growing penalty in step `step`; None if there is no such penalty."""
        return None

    def replaces(self, step: int) -> bool:
        """Whether step `step` updates no weight: its batch only gives the gradients for `change`."""
        return False

    def is_due(self, step: int) -> bool:
        """Whether `change` has to be called once `step` steps are taken."""
        return False

    def change(self, step: int, gradients: Mapping[str, Tensor] | None = None) -> None:
        """Change the network. gradients: by parameter, those of the replaced step, of pruned weights too."""

    def state_dict(self) -> dict[str, Any]:
        """What the remaining steps depend on, besides weights, masks and the optimiser."""
        return {
            "changes": [list(change) for change in self.changes],
            "left": [[step, dict(counts)] for step, counts in self.left],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.changes = [(int(step), int(left), int(entered)) for step, left, entered in state["changes"]]
        self.left = [(int(step), dict(counts)) for step, counts in state["left"]]


class Sparsifier(Protocol):
    """What a training is told: when and how its masks or weights change."""

    @property
    def names(self) -> Sequence[str]:
        """The parameters that it works on, besides those that have masks from the start."""

    @property
    def changes_masks(self) -> bool:
        """Whether the network has other masks at the end of the training than at its start."""

    def identity(self) -> str:
        """Everything that the training's outcome depends on, as text."""

    def start(self, network: SparseNetwork) -> ActiveSparsifier:
        """What works on a network."""
