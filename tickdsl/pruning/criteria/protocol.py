"""What a criterion is: which units it ranks, what it needs for that, and what it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs
import torch
from torch import Tensor, nn

from tickdsl.errors import TickdslError
from tickdsl.graph.model import Block, ChannelGroup, ModelGraph
from tickdsl.graph.structure import Structure

#: Normalised pictures [N, C, H, W] and their labels [N].
Batch = tuple[Tensor, Tensor]


@attrs.frozen
class Sample:
    """Training pictures that a criterion looks at: so many of each class or of all, in batches of at most `batch`."""

    per_class: int | None = None
    total: int | None = None
    batch: int = 256


def _no_network(structure: Structure) -> nn.Module:
    raise ValueError("this criterion runs the network, and none was given")


def _no_batches(sample: Sample) -> Sequence[Batch]:
    raise ValueError("this criterion looks at pictures, and none were given")


@attrs.frozen(eq=False)
class ScoringContext:
    """The network that is left, as a criterion sees it.

    `state` is the state dict of what `structure` leaves, masks not applied. `network` builds an ordinary module with
    those weights, masks applied, for that structure or a smaller one: a fresh one at each call, to be altered at
    will. `batches` gives the same ones whenever it is asked, on the device of `network`. `shape` is (C, H, W) of
    a picture. `generator` draws a random ranking.
    """

    graph: ModelGraph
    structure: Structure
    state: Mapping[str, Tensor]
    generator: torch.Generator | None = None
    shape: tuple[int, int, int] = (1, 1, 1)
    network: Callable[[Structure], nn.Module] = _no_network
    batches: Callable[[Sample], Sequence[Batch]] = _no_batches


class Criterion:
    """Ranks units: the higher its score, the more a unit is worth keeping.

    A subclass names the `units` that it ranks and has the method of each: `weights`, `channels` (for filters and
    neurons) and `layers`. Scores are finite float64 on the CPU, and equal for equal subjects.

    `needs` says what the scores rest on beside the weights: `data` (pictures, drawn from the plan's seed), `gradients`,
    `network` (it is run, without data), `training` (on an untrained network they say nothing), `batch norm`.
    `name` is what plans call it; a plug-in gets the one that it is registered under.
    """

    name: str = ""
    units: tuple[str, ...]
    needs: tuple[str, ...] = ()

    @property
    def runs_network(self) -> bool:
        """Whether scoring takes more than the weights."""
        return bool({"data", "network"} & set(self.needs))

    def weights(self, context: ScoringContext, names: Sequence[str]) -> list[Tensor]:
        """For each named weight of what is left, a flat score per entry."""
        raise self._unsupported_unit("weights")

    def channels(self, context: ScoringContext, groups: Sequence[ChannelGroup]) -> list[Tensor]:
        """For each channel group a score per unit that is left, in the order of `remaining_units`."""
        raise self._unsupported_unit("filters")

    def layers(self, context: ScoringContext, blocks: Sequence[Block]) -> Tensor:
        """A score per block."""
        raise self._unsupported_unit("layers")

    def _unsupported_unit(self, unit: str) -> TickdslError:
        return TickdslError(f"`by {self.name}` cannot rank {unit}", f"it ranks {', '.join(self.units)}")
