"""Metric plug-ins: numbers about a trained network that `report` shows along with the built-in metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from numbers import Real
from typing import Any, Protocol, cast

import attrs
import torch
from torch import Tensor, nn

from tickdsl.plugins import PluginError, call_plugin, load_plugin, require_plugin, type_in_words
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.data.streaming.images import batches
from tickdsl.training.named_tensors import run_network


@attrs.frozen(eq=False)
class TrainedModel:
    """A trained network passed to a metric, in eval mode on `device`; pruned weights are removed or exactly zero."""

    network: nn.Module
    data: Dataset
    device: torch.device

    def batches(self, size: int = 256) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over the test set in order, in batches of at most `size`, on the device.

        Yields preprocessed inputs, such as normalised images, float32 [n, C, H, W], and targets: labels int64 [n], or
        what else the task takes. Several inputs are passed on as `network(**inputs)`.
        """
        preprocess = self.data.preprocess(self.device)
        images, labels = self.data.test_inputs, self.data.test_targets
        for batch, batch_labels in zip(batches(images, size), torch.split(labels, size), strict=True):
            yield preprocess(batch.to(self.device)), batch_labels.to(self.device)

    def scores(self) -> Tensor:
        """The network's outputs for the whole test set, e.g. logits float32 [N, classes], on the CPU."""
        with torch.no_grad():
            return torch.cat([run_network(self.network, batch).float().cpu() for batch, _ in self.batches()])


class Metric(Protocol):
    """Measures a trained network; returns a number, or several by name, which are shown as `metric.name`.

    It must be deterministic; torch's default generator is seeded before each call.
    """

    def __call__(self, trained: TrainedModel, /) -> float | Mapping[str, float]: ...


def metric_figures(name: str, trained: TrainedModel) -> dict[str, float]:
    """Call the metric plug-in `name`; returns figures by name. Raises PluginError unless they are finite numbers."""
    plugin = require_plugin("metric", name)
    metric = cast(Metric, load_plugin(plugin))
    if not callable(metric):
        message = f"`{name}` is {type_in_words(metric)}, not a metric"
        raise PluginError(message, "register a function that takes a tickdsl.extending.TrainedModel")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        result = call_plugin(plugin, cast(Callable[..., Any], metric), trained)
    is_mapping = isinstance(result, Mapping)
    figures = {f"{name}.{key}": value for key, value in result.items()} if is_mapping else {name: result}
    if not figures:
        raise PluginError(f"`{name}` returned no numbers", "return a number or a dictionary of numbers")
    return {key: _checked_number(name, key, value) for key, value in figures.items()}


def _checked_number(name: str, key: str, value: Any) -> float:
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if not isinstance(value, Real):
        message = f"`{name}` returned {type_in_words(value)} for {key}, not a number"
        raise PluginError(message, "return a number or a dictionary of numbers")
    if not math.isfinite(value):
        raise PluginError(f"`{name}` returned {value} for {key}", "return finite numbers")
    return float(value)
