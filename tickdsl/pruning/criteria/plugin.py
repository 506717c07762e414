"""Criterion plug-ins, whose scores are checked before they are used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from tickdsl.graph.model import Block, ChannelGroup
from tickdsl.plugins import Plugin, PluginError, call_plugin, load_plugin, require_plugin, type_in_words
from tickdsl.plurals import plural
from tickdsl.pruning.criteria.protocol import Criterion, ScoringContext
from tickdsl.pruning.criteria.score_aggregation import average_scores, block_scores, flatten_rows, producer_slices
from tickdsl.pruning.remaining_units import remaining_units


class RowScore(Protocol):
    """Scores units by their weights alone: float64 [units, weights] to [units]; units with high scores are kept.

    A row holds the weights of a filter or neuron, a single weight, or all weights of a layer. Scores of filters in
    coupled layers are averaged.
    """

    def __call__(self, rows: Tensor, /) -> Tensor: ...


class NonFiniteScoresError(PluginError):
    """A plug-in returned infinite or NaN scores."""


def load_criterion(name: str) -> Criterion:
    """Load the criterion plug-in `name`. Raises PluginError if there is none, or it is not a criterion."""
    plugin = require_plugin("criterion", name)
    return _checked_criterion(plugin, load_plugin(plugin))


def own_criterion(value: object) -> Criterion:
    """A criterion that is given as an object: a Criterion, a subclass of it, or a function from weights to scores.

    Raises PluginError if it is something else.
    """
    name = str(getattr(value, "name", "") or getattr(value, "__name__", "") or type(value).__name__)
    code = value if hasattr(value, "__qualname__") else type(value)
    target = f"{code.__module__}:{getattr(code, '__qualname__', name)}"
    return _checked_criterion(Plugin("criterion", name, target), value)


def _checked_criterion(plugin: Plugin, loaded: Any) -> Criterion:
    if isinstance(loaded, type) and issubclass(loaded, Criterion):
        loaded = call_plugin(plugin, loaded)
    if not isinstance(loaded, Criterion):
        if isinstance(loaded, type) or not callable(loaded):
            actual = "a class" if isinstance(loaded, type) else type_in_words(loaded)
            hint = "subclass tickdsl.extending.Criterion, or register a function from weights to scores"
            raise PluginError(f"`{plugin.name}` is {actual}, not a criterion", hint)
        loaded = _RowScoreCriterion(loaded)
    return _CheckedCriterion(plugin, loaded)


class _RowScoreCriterion(Criterion):
    """A criterion that wraps a function on weights."""

    units = ("weights", "filters", "neurons", "heads", "head-dims", "layers", "blocks")

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
            raise ValueError(f"expected scores ({len(weights)},) for rows {tuple(weights.shape)}, got {result}")
        return scores.detach().cpu().double()


class _CheckedCriterion(Criterion):
    """Checks the number and values of a criterion's scores, and seeds torch's default generator for each call."""

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
            actual = plural(len(result), "tensor") if isinstance(result, list | tuple) else type_in_words(result)
            raise self._error(
                f"returned {actual} for {plural(len(names), 'group')} of {unit}",
                f"return a list of {plural(len(names), 'tensor')}",
            )
        return [
            self._check_scores(scores, name, size, unit)
            for scores, name, size in zip(result, names, sizes, strict=True)
        ]

    def _check_scores(self, scores: Any, name: str, size: int, unit: str) -> Tensor:
        if not isinstance(scores, Tensor) or scores.dtype == torch.bool or scores.is_complex():
            actual = str(scores.dtype) if isinstance(scores, Tensor) else type_in_words(scores)
            raise self._error(f"returned {actual} for {name}, not scores", f"return a numeric tensor of shape [{size}]")
        if tuple(scores.shape) != (size,):
            message = f"returned scores of shape {list(scores.shape)} for the {_counted(size, unit)} of {name}"
            raise self._error(message, f"return one score each: [{size}]")
        checked: Tensor = scores.detach().cpu().double()
        non_finite = int((~torch.isfinite(checked)).sum())
        if non_finite:
            message = f"`{self.name}` returned non-finite scores for {non_finite:,} of {_counted(size, unit)} of {name}"
            raise NonFiniteScoresError(message, "return finite scores")
        return checked

    def _error(self, message: str, hint: str) -> PluginError:
        return PluginError(f"`{self.name}` {message}", hint)


def _counted(size: int, unit: str) -> str:
    return plural(size, unit.removesuffix("s"))
