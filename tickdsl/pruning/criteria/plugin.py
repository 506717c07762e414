"""Criteria that users add: what they give is looked at before anything is removed by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from tickdsl.graph.model import Block, ChannelGroup
from tickdsl.plugins import Plugin, PluginError, call_plugin, load_plugin, require_plugin, type_in_words
from tickdsl.pruning.criteria.protocol import Criterion, ScoringContext
from tickdsl.pruning.criteria.score_aggregation import average_scores, block_scores, flatten_rows, producer_slices
from tickdsl.pruning.remaining_units import remaining_units


class RowScore(Protocol):
    """Scores units by their weights alone: [units, weights] in float64 to [units], higher for what is worth keeping.

    A unit's weights are a filter's or a neuron's, a single weight, or all of a layer; of coupled layers, whose filters
    go together, the mean of the scores counts.
    """

    def __call__(self, rows: Tensor, /) -> Tensor: ...


class NonFiniteScoresError(PluginError):
    """Scores that are no numbers."""


def load_criterion(name: str) -> Criterion:
    """The criterion that the plug-in `name` is. Raises PluginError."""
    plugin = require_plugin("criterion", name)
    loaded = load_plugin(plugin)
    if isinstance(loaded, type) and issubclass(loaded, Criterion):
        loaded = call_plugin(plugin, loaded)
    if not isinstance(loaded, Criterion):
        if isinstance(loaded, type) or not callable(loaded):
            what = "a class" if isinstance(loaded, type) else type_in_words(loaded)
            way_out = "subclass tickdsl.extending.Criterion, or name a function from weights to scores"
            raise PluginError(f"`{name}` is {what}, not a criterion", way_out)
        loaded = _RowScoreCriterion(loaded)
    return _CheckedCriterion(plugin, loaded)


class _RowScoreCriterion(Criterion):
    """A criterion made of a function on weights."""

    units = ("weights", "filters", "neurons", "layers", "blocks")

    def __init__(self, score: RowScore) -> None:
        self._score = score

    def weights(self, context: ScoringContext, names: Sequence[str]) -> list[Tensor]:
        return [self._score_rows(context.state[name].detach().cpu().double().reshape(-1, 1)) for name in names]

    def channels(self, context: ScoringContext, groups: Sequence[ChannelGroup]) -> list[Tensor]:
        return [
            average_scores(
                context,
                group,
                [
                    (group_slice, self._score_rows(flatten_rows(context.state[group_slice.parameter], group_slice.dim)))
                    for group_slice in group_slices
                ],
                self.name,
            )
            for group in groups
            for group_slices in [producer_slices(context, group)]
        ]

    def layers(self, context: ScoringContext, blocks: Sequence[Block]) -> Tensor:
        return torch.cat(
            [self._score_rows(block_scores(context, block, context.state).reshape(1, -1)) for block in blocks]
        )

    def _score_rows(self, weights: Tensor) -> Tensor:
        scores = self._score(weights)
        if not isinstance(scores, Tensor) or tuple(scores.shape) != (len(weights),):
            result = str(tuple(scores.shape)) if isinstance(scores, Tensor) else type_in_words(scores)
            raise ValueError(f"scores {result} for rows {tuple(weights.shape)}; ({len(weights)},) is needed")
        return scores.detach().cpu().double()


class _CheckedCriterion(Criterion):
    """A criterion whose scores are counted and found finite. Draws of its own repeat: scores depend on the subject."""

    def __init__(self, plugin: Plugin, wrapped: Criterion) -> None:
        self.name = plugin.name
        self.units, self.needs = wrapped.units, wrapped.needs
        wrapped.name = plugin.name
        self._plugin, self._wrapped = plugin, wrapped

    def weights(self, context: ScoringContext, names: Sequence[str]) -> list[Tensor]:
        sizes = [context.state[name].numel() for name in names]
        return self._check_all(self._call_plugin(self._wrapped.weights, context, names), list(names), sizes, "weights")

    def channels(self, context: ScoringContext, groups: Sequence[ChannelGroup]) -> list[Tensor]:
        sizes = [len(remaining_units(context.graph, context.structure, group.name)) for group in groups]
        names = [group.name for group in groups]
        return self._check_all(self._call_plugin(self._wrapped.channels, context, groups), names, sizes, "units")

    def layers(self, context: ScoringContext, blocks: Sequence[Block]) -> Tensor:
        (scores,) = self._check_all(
            [self._call_plugin(self._wrapped.layers, context, blocks)], ["the network"], [len(blocks)], "layers"
        )
        return scores

    def _call_plugin(self, method: Callable[..., Any], *args: Any) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            return call_plugin(self._plugin, method, *args)

    def _check_all(self, result: Any, names: list[str], sizes: list[int], unit: str) -> list[Tensor]:
        if not isinstance(result, list | tuple) or len(result) != len(names):
            what = f"{len(result)} tensors" if isinstance(result, list | tuple) else type_in_words(result)
            raise self._error(f"gives {what} for {len(names)} groups of {unit}", f"give a list of {len(names)} tensors")
        return [
            self._check_scores(scores, name, size, unit)
            for scores, name, size in zip(result, names, sizes, strict=True)
        ]

    def _check_scores(self, scores: Any, name: str, size: int, unit: str) -> Tensor:
        if not isinstance(scores, Tensor) or scores.dtype == torch.bool or scores.is_complex():
            what = str(scores.dtype) if isinstance(scores, Tensor) else type_in_words(scores)
            raise self._error(f"gives {what} for {name}, not scores", f"give a tensor [{size}] of numbers")
        if tuple(scores.shape) != (size,):
            message = f"gives scores {list(scores.shape)} for the {size} {unit} of {name}"
            raise self._error(message, f"give one score each: [{size}]")
        checked: Tensor = scores.detach().cpu().double()
        non_finite = int((~torch.isfinite(checked)).sum())
        if non_finite:
            message = f"`{self.name}` gives scores that are no numbers for {non_finite} of the {size} {unit} of {name}"
            raise NonFiniteScoresError(message, "give finite ones")
        return checked

    def _error(self, what: str, way_out: str) -> PluginError:
        return PluginError(f"`{self.name}` {what}", way_out)
