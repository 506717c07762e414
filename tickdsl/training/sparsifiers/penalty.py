"""A growing penalty drives chosen weights to zero while the network trains, before they are removed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import attrs
from torch import Tensor

from tickdsl.training.sparsifiers.protocol import ActiveSparsifier, SparseNetwork
from tickdsl.training.step.gradient_terms import GrowingPenalty


@attrs.frozen(eq=False)
class RisingPenalty:
    """Adds `factor` x weight to the gradients of chosen weights (growing regularisation, Wang et al. 2021; RST, Bai et
    al. 2022).

    The factor starts at 0 and grows by `step` every `every` steps, up to `to`. With another `power`, its share of
    `to` is that power of the share that it would be, and it gets there at the same time (the schedules x, x² and x³ of
    RST's code). chosen: by parameter, bool, True for the weights that are penalised.
    """

    chosen: Mapping[str, Tensor]
    step: float
    every: int
    to: float
    power: int = 1
    changes_masks: bool = attrs.field(default=False, init=False)

    @property
    def names(self) -> Sequence[str]:
        return tuple(self.chosen)

    def factor_at(self, step: int) -> float:
        """The factor of the penalty in a step, counted from 0."""
        linear = min(self.to, self.step * ((step + 1) // self.every))
        return linear if self.power == 1 else self.to * (linear / self.to) ** self.power

    def identity(self) -> str:
        digest = hashlib.sha256()
        for name, mask in sorted(self.chosen.items()):
            digest.update(name.encode() + mask.cpu().contiguous().numpy().tobytes())
        powers = [] if self.power == 1 else [self.power]
        return json.dumps(["penalty", self.step, self.every, self.to, *powers, digest.hexdigest()])

    def start(self, network: SparseNetwork) -> ActiveSparsifier:
        return _ActivePenalty(self, network)


class _ActivePenalty(ActiveSparsifier):
    def __init__(self, spec: RisingPenalty, network: SparseNetwork) -> None:
        super().__init__(network)
        self._spec = spec
        parameters = [network.parameters[name] for name in spec.names]
        self._penalty = GrowingPenalty(parameters, list(spec.chosen.values()))
        self.gradient_terms = (self._penalty,)

    def before_step(self, step: int) -> None:
        self._penalty.set_factor(self._spec.factor_at(step))

    def penalty_at(self, step: int) -> float:
        return self._spec.factor_at(step)
