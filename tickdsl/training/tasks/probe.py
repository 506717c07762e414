"""A task of a plug-in is tried on two samples when its data set is read: its mistakes are found before a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from tickdsl.plugins import PluginError, call_plugin, is_plugin, require_plugin, type_in_words
from tickdsl.training.tasks.protocol import Task


def probe(task: Task, targets: Tensor, outputs: int) -> None:
    """Try the methods of a task on at most two targets, unless it is built in. outputs: the number of outputs.

    Raises PluginError if one of them fails, with its place, or returns something else than it should.
    """
    if not is_plugin("task", task.name):
        return
    plugin, targets = require_plugin("task", task.name), targets[:2]
    place = targets.shape[1:] if task.spatial_targets else ()
    made = torch.rand(len(targets), outputs, *place, generator=torch.Generator().manual_seed(0))
    loss = call_plugin(plugin, task.bind(), made, targets)
    if not _is_tensor(loss, ()):
        raise _wrong(task, "loss", loss, "a scalar", "return the mean loss of the batch")
    sums = call_plugin(plugin, task.sums, made, targets)
    if not isinstance(sums, Tensor) or sums.dim() != 1 or sums.dtype != torch.float64:
        raise _wrong(task, "sums", sums, "float64 [m]", "sum over the batch, in float64")
    scores = call_plugin(plugin, task.scores, made, targets)
    if scores is not None and (not isinstance(scores, Tensor) or list(scores.shape) != [len(targets)]):
        raise _wrong(task, "scores", scores, f"[{len(targets)}]", "return one score per sample, or None")
    figures: object = call_plugin(plugin, task.figures, sums.tolist(), len(targets))
    names = ("loss", *(metric.name for metric in task.metrics))
    missing = names if not isinstance(figures, Mapping) else [name for name in names if name not in figures]
    if missing:
        raise PluginError(
            f"`{task.name}`: the figures lack {missing[0]}", "return every metric and `loss` from `figures`"
        )
    assert isinstance(figures, Mapping)
    for name, value in figures.items():
        if not isinstance(value, Real) or math.isnan(value):
            raise PluginError(f"`{task.name}`: the figure {name} is {value}", "return numbers from `figures`")


def _is_tensor(value: object, shape: tuple[int, ...]) -> bool:
    return isinstance(value, Tensor) and value.shape == shape and value.is_floating_point()


def _wrong(task: Task, method: str, value: Any, expected: str, hint: str) -> PluginError:
    shown = f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}" if isinstance(value, Tensor) else None
    return PluginError(f"`{task.name}`: {method} returns {shown or type_in_words(value)}, not {expected}", hint)
