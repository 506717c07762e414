"""Dynamic sparse training: weights leave a sparse network while it trains, and as many others enter it.

SET (Mocanu et al. 2018) lets random weights in, RigL (Evci et al. 2020) those with the largest gradients, SNFS
(Dettmers & Zettlemoyer 2019) those with the largest momentum. In all three, the smallest weights of a layer leave, and
every layer keeps its number of weights: SNFS is the form of RigL's authors, which moves no weights between layers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import attrs
import torch
from torch import Tensor

from tickdsl.training.rng import generator
from tickdsl.training.sparsifiers.protocol import ActiveSparsifier, SparseNetwork
from tickdsl.training.sparsifiers.selection import UNREACHABLE, entries, is_above, lowest, number_of, positions
from tickdsl.training.step.masks import as_numbers

Growth = Literal["gradient", "random", "momentum"]
FanIn = Literal["free", "constant"]


@attrs.frozen
class Evolution:
    """Every `every` steps before step `until`, a share of the weights of each layer with a mask is exchanged.

    The share decays along a cosine from `share` at step 0 of the recipe to 0 at `until`. grow: which weights enter.
    fan_in: `constant` gives every output of a layer as many weights as the others, up to one (SRigL, Lasby et al. 2024,
    without its removal of neurons).

    With `gradient`, the step of a change updates no weight: its batch gives the gradients, as in RigL's algorithm 1.
    Weights enter with the value 0 and with fresh state of the optimiser. One that would leave and enter at once stays
    as it is.
    """

    share: float
    every: int
    until: int
    grow: Growth = "gradient"
    fan_in: FanIn = "free"
    changes_masks: bool = attrs.field(default=True, init=False)
    names: Sequence[str] = attrs.field(default=(), init=False)

    def identity(self) -> str:
        return json.dumps(["evolution", self.share, self.every, self.until, self.grow, self.fan_in])

    def start(self, network: SparseNetwork) -> ActiveSparsifier:
        return _ActiveEvolution(self, network)

    def share_at(self, step: int) -> float:
        """The share of a layer's weights that is exchanged at a step."""
        return self.share / 2 * (1 + math.cos(math.pi * step / self.until))

    def changes_at(self, step: int) -> bool:
        """Whether weights are exchanged at a step."""
        return 0 < step < self.until and step % self.every == 0


class _ActiveEvolution(ActiveSparsifier):
    def __init__(self, spec: Evolution, network: SparseNetwork) -> None:
        super().__init__(network)
        self._spec = spec
        #: The masks after the last change, and the numbers of weights in them, which are read in every change.
        self._kept: dict[str, tuple[Tensor, int]] = {}

    def replaces(self, step: int) -> bool:
        return self._spec.grow == "gradient" and self._spec.changes_at(step)

    def is_due(self, step: int) -> bool:
        return self._spec.grow != "gradient" and self._spec.changes_at(step)

    @torch.no_grad()
    def change(self, step: int, gradients: Mapping[str, Tensor] | None = None) -> None:
        network, share = self.network, self._spec.share_at(step)
        masks: dict[str, Tensor] = {}
        left = 0
        for name in network.masks.names:
            weight = network.parameters[name]
            kept, total = self._kept.get(name) or self._mask(name)
            count = int(share * total)
            if not count or total == kept.numel():
                continue
            if self._spec.fan_in == "constant":
                after = exchange_with_constant_fan_in(weight, kept, self._growth(step, name, gradients), count)
            elif self._spec.grow == "random":
                after = exchange_at_random(weight, kept, count, self._stream(step, name))
            else:
                after = exchange(weight, kept, self._growth(step, name, gradients), count)
            entering = after & ~kept
            network.reset_state(name, entering)
            left += number_of(entering)
            masks[name] = after
            self._kept[name] = after, number_of(after)
        network.masks.replace(masks)
        self.changes.append((step, left, left))

    def _mask(self, name: str) -> tuple[Tensor, int]:
        """The mask of a parameter as it is now, bool, and the number of weights in it."""
        kept = is_above(self.network.masks.factors(name), 0.5)
        return kept, number_of(kept)

    def _stream(self, step: int, name: str) -> torch.Generator:
        return generator(self.network.seed, "evolve", step, name)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._kept.clear()

    def _growth(self, step: int, name: str, gradients: Mapping[str, Tensor] | None) -> Tensor:
        """The scores by which weights of a layer enter: the highest do."""
        weight = self.network.parameters[name]
        match self._spec.grow:
            case "random":
                return torch.rand(weight.shape, generator=self._stream(step, name)).to(weight.device)
            case "momentum":
                momentum = self.network.momentum(name)
                return torch.zeros_like(weight) if momentum is None else momentum.abs()
        assert gradients is not None
        return gradients[name].abs()


def exchange(weight: Tensor, kept: Tensor, growth: Tensor, count: int) -> Tensor:
    """The mask of a layer whose `count` smallest weights have left for the `count` others with the highest growth.

    weight: the layer's weights, 0 outside of the mask. kept: the mask, bool. growth: the scores, at least 0, of those
    that may enter; they may be overwritten. All have one shape. Weights that leave may enter again. Returns a bool.
    """
    stays = _staying(weight, kept, count)
    unranked = as_numbers(stays, growth.dtype)
    entering = lowest(growth.flatten().neg_().add_(unranked, alpha=UNREACHABLE), count)
    return stays.logical_or_(entering).view(weight.shape)


def exchange_at_random(weight: Tensor, kept: Tensor, count: int, stream: torch.Generator) -> Tensor:
    """Like `exchange`, but the weights that enter are drawn, all that may enter being as likely as the others.

    stream: on the CPU, for any device. In a sparse layer, positions are drawn until enough of them are new, which takes
    fewer numbers than one for each weight.
    """
    after = _staying(weight, kept, count)
    total, size = number_of(kept), len(after)
    if 4 * (size - total) < size:  # few places stay free: most draws would be in vain
        free = positions(~after)
        drawn = torch.randperm(len(free), generator=stream)[: total - number_of(after)].to(after.device)
        after.index_fill_(0, entries(free, drawn), True)
    while missing := total - number_of(after):
        drawn = torch.randint(size, (missing,), generator=stream)
        after.index_fill_(0, drawn.to(after.device), True)
    return after.view(weight.shape)


def exchange_with_constant_fan_in(weight: Tensor, kept: Tensor, growth: Tensor, count: int) -> Tensor:
    """Like `exchange`, but afterwards all outputs (rows, the first dimension) have equally many weights, up to one.

    The `count` smallest weights of the layer leave; then every row loses its smallest weights, or gains those with the
    highest growth, until it has its share. Of rows that cannot all have the same, those with the most weights left have
    one more.
    """
    rows = weight.shape[0]
    stays = _staying(weight, kept, count).view(rows, -1)
    left = stays.sum(1)
    fan_in, more = divmod(number_of(kept), rows)
    wanted = torch.full_like(left, fan_in)
    wanted[torch.argsort(left, descending=True, stable=True)[:more]] += 1
    magnitudes, scores = weight.reshape(rows, -1).abs(), growth.reshape(rows, -1)
    # Those that stay come first, the largest before the smallest; then the others, by their growth.
    by_growth = torch.argsort(scores.masked_fill(stays, -torch.inf), dim=1, descending=True, stable=True)
    by_magnitude = torch.argsort(magnitudes.masked_fill(~stays, -1.0), dim=1, descending=True, stable=True)
    place = torch.arange(stays.shape[1], device=weight.device).expand(rows, -1)
    rank = torch.empty_like(by_growth)
    rank.scatter_(1, by_growth, place + left[:, None])
    ranked_stays = torch.empty_like(by_magnitude).scatter_(1, by_magnitude, place)
    rank = torch.where(stays, ranked_stays, rank)
    return (rank < wanted[:, None]).view(weight.shape)


def _staying(weight: Tensor, kept: Tensor, count: int) -> Tensor:
    """Where the weights of a mask are, without its `count` smallest ones: bool [N]."""
    inside = kept.flatten()
    where = positions(inside)
    leaving = lowest(entries(weight.flatten(), where).abs_(), count)
    return inside.index_fill(0, entries(where, positions(leaving)), False)
