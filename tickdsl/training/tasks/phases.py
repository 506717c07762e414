"""Phases: parts of a network that are trained in turn within a step, each by a loss and an optimiser of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import attrs
from torch import Tensor, nn

from tickdsl.errors import TickdslError

#: The mean loss of a phase, a scalar, from the network, a batch's inputs [B, …] and its targets [B, …].
PhaseLoss = Callable[[nn.Module, Tensor, Tensor], Tensor]


@attrs.frozen
class Phase:
    """A phase of a training step: `part`, the path of a module, is trained by `loss`; everything else stays as it is.

    name: what messages call it. The loss runs parts of the network itself, so that it computes only what it needs.
    """

    name: str
    part: str
    loss: PhaseLoss

    def trains(self, parameter: str) -> bool:
        """Whether the parameter with this name belongs to the part."""
        return parameter.startswith(f"{self.part}.")

    def parameters(self, network: nn.Module) -> dict[str, nn.Parameter]:
        """The part's parameters that are trained, by name. Raises TickdslError if the network has none."""
        found = {name: p for name, p in network.named_parameters() if self.trains(name) and p.requires_grad}
        if not found:
            parts = ", ".join(name for name, _ in network.named_children()) or "none"
            raise TickdslError(
                f"the phase `{self.name}` trains the part `{self.part}`, which has no parameters in this network "
                f"(its parts: {parts})",
                f"use a network whose part `{self.part}` can be trained, or another task",
            )
        return found


def joint_loss(network: nn.Module, inputs: Tensor, targets: Tensor, phases: Sequence[Phase]) -> Tensor:
    """The sum of the phases' losses, each of which has a gradient for the weights of its own part alone."""
    losses = []
    for phase in phases:
        with only_trainable(network, phase):
            losses.append(phase.loss(network, inputs, targets))
    total = losses[0]
    for loss in losses[1:]:
        total = total + loss
    return total


@contextmanager
def only_trainable(network: nn.Module, phase: Phase) -> Iterator[None]:
    """Let no gradient reach parameters outside a phase's part."""
    others = [p for name, p in network.named_parameters() if p.requires_grad and not phase.trains(name)]
    for parameter in others:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in others:
            parameter.requires_grad_(True)
