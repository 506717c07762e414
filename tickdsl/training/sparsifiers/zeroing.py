"""Soft pruning: chosen weights are set to zero from time to time, and go on learning (He et al. 2018)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

import attrs
import torch
from torch import Tensor

from tickdsl.training.sparsifiers.protocol import ActiveSparsifier, SparseNetwork

#: The weights to set to zero, by parameter (bool, True: zero), for the network's state dict.
ChooseWeights = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]


@attrs.frozen(eq=False)
class SoftPruning:
    """Every `every` steps, and at the end (step `stop`), sets to zero what `choose` chooses then.

    Nothing stays zero: the gradients are not masked. text: what determines the choice, for `identity`.
    """

    choose: ChooseWeights
    every: int
    stop: int
    text: str = ""
    changes_masks: bool = attrs.field(default=False, init=False)
    names: Sequence[str] = attrs.field(default=(), init=False)

    def identity(self) -> str:
        return json.dumps(["soft", self.every, self.stop, self.text])

    def start(self, network: SparseNetwork) -> ActiveSparsifier:
        return _ActiveSoftPruning(self, network)


class _ActiveSoftPruning(ActiveSparsifier):
    def __init__(self, spec: SoftPruning, network: SparseNetwork) -> None:
        super().__init__(network)
        self._spec = spec

    def is_due(self, step: int) -> bool:
        return step > 0 and (step % self._spec.every == 0 or step == self._spec.stop)

    @torch.no_grad()
    def change(self, step: int, gradients: Mapping[str, Tensor] | None = None) -> None:
        parameters = dict(self.network.model.named_parameters())
        zeroed = 0
        for name, chosen in self._spec.choose(self.network.model.state_dict()).items():
            parameters[name].masked_fill_(chosen.to(parameters[name].device), 0)
            zeroed += int(chosen.sum())
        self.changes.append((step, zeroed, 0))
