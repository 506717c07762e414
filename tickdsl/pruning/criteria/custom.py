"""Criteria that users add: what they give is looked at before anything is removed by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from tickdsl.graph.model import Block, ChannelGroup
from tickdsl.plugins import Plugin, PluginError, called, kind_of, load, required
from tickdsl.pruning.criteria.aggregate import averaged, inside, producers, rows
from tickdsl.pruning.criteria.protocol import Criterion, Subject
from tickdsl.pruning.units import left_units


class RowScore(Protocol):
    """Scores units by their weights alone: [units, weights] in float64 to [units], higher for what is worth keeping.

    A unit's weights are a filter's or a neuron's, a single weight, or all of a layer; of coupled layers, whose filters
    go together, the mean of the scores counts.
    """

    def __call__(self, rows: Tensor, /) -> Tensor: ...


class NotFinite(PluginError):
    """Scores that are no numbers."""


def own(name: str) -> Criterion:
    """The criterion that the plug-in `name` is. Raises PluginError."""
    plugin = required("criterion", name)
    found = load(plugin)
    if isinstance(found, type) and issubclass(found, Criterion):
        found = called(plugin, found)
    if not isinstance(found, Criterion):
        if isinstance(found, type) or not callable(found):
            what = "a class" if isinstance(found, type) else kind_of(found)
            way_out = "subclass tickdsl.extending.Criterion, or name a function from weights to scores"
            raise PluginError(f"`{name}` is {what}, not a criterion", way_out)
        found = _ByRows(found)
    return _Sound(plugin, found)


class _ByRows(Criterion):
    """A criterion made of a function on weights."""

    units = ("weights", "filters", "neurons", "layers", "blocks")

    def __init__(self, score: RowScore) -> None:
        self._score = score

    def weights(self, subject: Subject, names: Sequence[str]) -> list[Tensor]:
        return [self._of(subject.state[name].detach().cpu().double().reshape(-1, 1)) for name in names]

    def channels(self, subject: Subject, groups: Sequence[ChannelGroup]) -> list[Tensor]:
        return [
            averaged(
                subject,
                group,
                [(piece, self._of(rows(subject.state[piece.parameter], piece.dim))) for piece in pieces],
                self.name,
            )
            for group in groups
            for pieces in [producers(subject, group)]
        ]

    def layers(self, subject: Subject, blocks: Sequence[Block]) -> Tensor:
        return torch.cat([self._of(inside(subject, block, subject.state).reshape(1, -1)) for block in blocks])

    def _of(self, weights: Tensor) -> Tensor:
        scores = self._score(weights)
        if not isinstance(scores, Tensor) or tuple(scores.shape) != (len(weights),):
            given = str(tuple(scores.shape)) if isinstance(scores, Tensor) else kind_of(scores)
            raise ValueError(f"scores {given} for rows {tuple(weights.shape)}; ({len(weights)},) is needed")
        return scores.detach().cpu().double()


class _Sound(Criterion):
    """A criterion whose scores are counted and found finite. Draws of its own repeat: scores depend on the subject."""

    def __init__(self, plugin: Plugin, inner: Criterion) -> None:
        self.name = plugin.name
        self.units, self.needs = inner.units, inner.needs
        inner.name = plugin.name
        self._plugin, self._inner = plugin, inner

    def weights(self, subject: Subject, names: Sequence[str]) -> list[Tensor]:
        sizes = [subject.state[name].numel() for name in names]
        return self._each(self._ask(self._inner.weights, subject, names), list(names), sizes, "weights")

    def channels(self, subject: Subject, groups: Sequence[ChannelGroup]) -> list[Tensor]:
        sizes = [len(left_units(subject.graph, subject.structure, group.name)) for group in groups]
        names = [group.name for group in groups]
        return self._each(self._ask(self._inner.channels, subject, groups), names, sizes, "units")

    def layers(self, subject: Subject, blocks: Sequence[Block]) -> Tensor:
        (scores,) = self._each(
            [self._ask(self._inner.layers, subject, blocks)], ["the network"], [len(blocks)], "layers"
        )
        return scores

    def _ask(self, method: Callable[..., Any], *args: Any) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            return called(self._plugin, method, *args)

    def _each(self, given: Any, names: list[str], sizes: list[int], unit: str) -> list[Tensor]:
        if not isinstance(given, list | tuple) or len(given) != len(names):
            many = f"{len(given)} tensors" if isinstance(given, list | tuple) else kind_of(given)
            raise self._wrong(f"gives {many} for {len(names)} groups of {unit}", f"give a list of {len(names)} tensors")
        return [self._one(scores, name, size, unit) for scores, name, size in zip(given, names, sizes, strict=True)]

    def _one(self, scores: Any, name: str, size: int, unit: str) -> Tensor:
        if not isinstance(scores, Tensor) or scores.dtype == torch.bool or scores.is_complex():
            what = str(scores.dtype) if isinstance(scores, Tensor) else kind_of(scores)
            raise self._wrong(f"gives {what} for {name}, not scores", f"give a tensor [{size}] of numbers")
        if tuple(scores.shape) != (size,):
            message = f"gives scores {list(scores.shape)} for the {size} {unit} of {name}"
            raise self._wrong(message, f"give one score each: [{size}]")
        found: Tensor = scores.detach().cpu().double()
        odd = int((~torch.isfinite(found)).sum())
        if odd:
            message = f"`{self.name}` gives scores that are no numbers for {odd} of the {size} {unit} of {name}"
            raise NotFinite(message, "give finite ones")
        return found

    def _wrong(self, what: str, way_out: str) -> PluginError:
        return PluginError(f"`{self.name}` {what}", way_out)
