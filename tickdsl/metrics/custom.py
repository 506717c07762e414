"""Metrics that users add: numbers about a trained network that `report` shows beside the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from numbers import Real
from typing import Any, Protocol, cast

import attrs
import torch
from torch import Tensor, nn

from tickdsl.plugins import PluginError, called, kind_of, load, required
from tickdsl.training.data.augment import Normalise
from tickdsl.training.data.datasets import Dataset


@attrs.frozen(eq=False)
class Trained:
    """A trained network as a metric sees it: in eval mode on `device`, pruned weights gone or exactly zero."""

    network: nn.Module
    data: Dataset
    device: torch.device

    def batches(self, size: int = 256) -> Iterator[tuple[Tensor, Tensor]]:
        """The test set in order: normalised pictures float32 [n, C, H, W] and labels int64 [n], on the device."""
        normalise = Normalise(self.data.mean, self.data.std, self.device)
        images, labels = self.data.test_images, self.data.test_labels
        for pictures, answers in zip(torch.split(images, size), torch.split(labels, size), strict=True):
            yield normalise(pictures.to(self.device)), answers.to(self.device)

    def scores(self) -> Tensor:
        """The network's scores for the whole test set, float32 [N, classes], on the CPU."""
        with torch.no_grad():
            return torch.cat([self.network(pictures).float().cpu() for pictures, _ in self.batches()])


class Metric(Protocol):
    """Measures a trained network: a number, or several by name, which are shown as `metric.name`.

    The same numbers at each call; draws from torch's default stream repeat.
    """

    def __call__(self, trained: Trained, /) -> float | Mapping[str, float]: ...


def own(name: str, trained: Trained) -> dict[str, float]:
    """The figures of the plug-in `name` by their names. Raises PluginError where it gives no numbers."""
    plugin = required("metric", name)
    metric = cast(Metric, load(plugin))
    if not callable(metric):
        message = f"`{name}` is {kind_of(metric)}, not a metric"
        raise PluginError(message, "name a function of a tickdsl.extending.Trained")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        given = called(plugin, cast(Callable[..., Any], metric), trained)
    several = isinstance(given, Mapping)
    figures = {f"{name}.{word}": value for word, value in given.items()} if several else {name: given}
    if not figures:
        raise PluginError(f"`{name}` gives no numbers", "return a number, or a dictionary of them")
    return {word: _number(name, word, value) for word, value in figures.items()}


def _number(name: str, word: str, value: Any) -> float:
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if not isinstance(value, Real):
        message = f"`{name}` gives {kind_of(value)} for {word}, not a number"
        raise PluginError(message, "return a number, or a dictionary of them")
    if not math.isfinite(value):
        raise PluginError(f"`{name}` gives {value} for {word}", "return finite numbers")
    return float(value)
