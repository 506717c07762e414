"""Dynamic sparse training: weights leave a sparse network while it trains, and as many others enter it.

SET (Mocanu et al. 2018) lets random weights in, RigL (Evci et al. 2020) those with the largest gradients, SNFS
(Dettmers & Zettlemoyer 2019) those with the largest momentum. In all three, the smallest weights of a layer leave, and
every layer keeps its number of weights: SNFS is the form of RigL's authors, which moves no weights between layers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import attrs
import torch
from torch import Tensor

from tickdsl.training.rng import generator
from tickdsl.training.sparsifiers.protocol import ActiveSparsifier, SparseNetwork
from tickdsl.training.sparsifiers.selection import UNREACHABLE, highest_among, is_above, lowest, number_of
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
        sizes = [network.parameters[name].numel() for name in network.masks.names if spec.grow == "random"]
        #: Memory for the random numbers of any layer, since new pages take time at every change.
        self._draws = torch.empty(max(sizes, default=0))

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
            kept, weight = is_above(network.masks.factors(name), 0.5), network.parameters[name]
            total = number_of(kept)
            count = int(share * total)
            if not count or total == kept.numel():
                continue
            growth = self._growth(step, name, gradients)
            if self._spec.fan_in == "constant":
                after = exchange_with_constant_fan_in(weight, kept, growth, count)
            else:
                after = exchange(weight, kept, growth, count)
            entering = after & ~kept
            network.reset_state(name, entering)
            left += number_of(entering)
            masks[name] = after
        network.masks.replace(masks)
        self.changes.append((step, left, left))

    def _growth(self, step: int, name: str, gradients: Mapping[str, Tensor] | None) -> Tensor:
        """The scores by which weights of a layer enter: the highest do."""
        weight = self.network.parameters[name]
        match self._spec.grow:
            case "random":
                stream = generator(self.network.seed, "evolve", step, name)
                draws = self._draws[: weight.numel()].view(weight.shape)
                return torch.rand(weight.shape, generator=stream, out=draws).to(weight.device)
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
    return inside & ~highest_among(weight.abs().neg_().flatten(), inside, count)
