"""The interface of pruning criteria: `Criterion`, and the `ScoringContext` that it receives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tickdsl.errors import TickdslError
from tickdsl.graph.model import Block, ChannelGroup, ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact_masks
from tickdsl.training.catalogue.input_shapes import InputShape
from tickdsl.training.parallel.ranks import Ranks
from tickdsl.training.tasks import Phase

#: Normalised images [N, C, H, W] and their targets: labels [N], or what else the task takes.
Batch = tuple[Tensor, Tensor]


@attrs.frozen
class Sample:
    """The number of training images that a criterion uses, per class or in total, in batches of at most `batch`."""

    per_class: int | None = None
    total: int | None = None
    batch: int = 256


def _no_network(structure: Structure) -> nn.Module:
    raise ValueError("this criterion needs a network, but the context has none")


def _no_batches(sample: Sample) -> Sequence[Batch]:
    raise ValueError("this criterion needs images, but the context has none")


@attrs.frozen(eq=False)
class ScoringContext:
    """The pruned network that a criterion scores.

    `state` is the state dict of the compact network of `structure`. The structure's masks are applied to it here, so no
    criterion sees weights that are gone; those of a network that was rewound or is untrained may still have them.
    `network` builds a module with these weights, for `structure` or a smaller one; each call returns a new module,
    which the criterion may change. `batches` returns the batches of a sample, the same ones at each call, on the device
    of `network`. `shape` is that of an input, (C, H, W) of an image. `generator` is for random rankings. `loss` maps
    the outputs of the network and the targets of a batch to their mean loss; `logits` tells whether these outputs are
    logits, which a temperature divides. `origin` is the state dict that changes of weights are measured from, for the
    same compact network. With `phases`, parts of the network are trained in turn; a weight is scored by the loss of the
    phase that trains it. `costs` count what is left of costs that are measured on this machine: `latency`. `ranks` are
    the processes that score the network together, if there are several; `draws` tells whether it draws random numbers.
    """

    graph: ModelGraph
    structure: Structure
    state: Mapping[str, Tensor]
    generator: torch.Generator | None = None
    shape: InputShape = (1, 1, 1)
    network: Callable[[Structure], nn.Module] = _no_network
    batches: Callable[[Sample], Sequence[Batch]] = _no_batches
    loss: Callable[[Any, Any], Tensor] = F.cross_entropy
    logits: bool = True
    origin: Mapping[str, Tensor] | None = None
    phases: Sequence[Phase] = ()
    costs: Mapping[str, Callable[[ModelGraph, Structure], int]] = attrs.field(factory=dict)
    ranks: Ranks | None = None
    draws: bool = False

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "state", masked_state(self.graph, self.structure, self.state))


def masked_state(graph: ModelGraph, structure: Structure, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The state dict of the compact network of `structure`, with its masked weights set to zero."""
    masks = compact_masks(graph, structure)
    if not masks:
        return state
    return {
        name: tensor * masks[canonical].to(tensor) if (canonical := graph.aliases.get(name, name)) in masks else tensor
        for name, tensor in state.items()
    }


class Criterion:
    """Scores units; units with the lowest scores are removed first.

    A subclass lists the `units` that it can rank and overrides their methods: `weights`, `channels` (for filters and
    neurons) and `layers`. Scores are finite float64 tensors on the CPU, and equal for equal contexts.

    `needs` lists what the scores depend on besides the weights: `data` (images, sampled with the plan's seed),
    `gradients`, `network` (a forward pass without data), `training` (meaningless on an untrained network), `batch
    norm`. `name` is its name in plans; a plug-in gets the name under which it is registered. `shares_batches` says that
    it adds up what the processes of `ScoringContext.ranks` find, each on some of the batches; all other criteria, and
    those of plug-ins, are scored by one of them alone.
    """

    name: str = ""
    units: tuple[str, ...]
    needs: tuple[str, ...] = ()
    shares_batches: bool = False

    @property
    def runs_network(self) -> bool:
        """Whether scoring runs the network."""
        return bool({"data", "network"} & set(self.needs))

    def weights(self, context: ScoringContext, names: Sequence[str]) -> list[Tensor]:
        """Score the entries of each named weight of the compact network; one flat tensor per weight."""
        raise self._unsupported_unit("weights")

    def channels(self, context: ScoringContext, groups: Sequence[ChannelGroup]) -> list[Tensor]:
        """Score the remaining units of each channel group, in the order of `remaining_units`."""
        raise self._unsupported_unit("filters")

    def layers(self, context: ScoringContext, blocks: Sequence[Block]) -> Tensor:
        """Score each block, [blocks]."""
        raise self._unsupported_unit("layers")

    def _unsupported_unit(self, unit: str) -> TickdslError:
        return TickdslError(f"`by {self.name}` cannot rank {unit}", f"it can rank {', '.join(self.units)}")
