"""Networks that users add: built under the plan's seed, and tried once with the data's pictures."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from tickdsl.plugins import Plugin, PluginError, called, kind_of, load, required
from tickdsl.plugins.loading import place, told
from tickdsl.training.rng import stream_seed

Shape = tuple[int, int, int]


class ModelFactory(Protocol):
    """Makes a network for `classes` classes and pictures of `shape` (C, H, W), with its initial weights.

    The network takes float32 pictures [N, C, H, W] and gives a score per class, [N, classes]. Random weights come from
    torch's default stream, which is set to the plan's seed before. The classifier is best made last: networks for fewer
    classes then share all other weights. Further parameters with a default are options of `model` in plans.
    """

    def __call__(self, classes: int, shape: Shape, /) -> nn.Module: ...


def build(name: str, classes: int, shape: Shape, seed: int, options: Mapping[str, Any]) -> nn.Module:
    """The network that the plug-in `name` makes. Raises PluginError where it makes none, or one that does not fit."""
    plugin = required("model", name)
    factory = cast(ModelFactory, load(plugin))
    more = {word.replace("-", "_"): value for word, value in options.items()}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(stream_seed(seed, "init"))
        module = called(plugin, cast(Callable[..., Any], factory), classes, shape, **more)
        if not isinstance(module, nn.Module):
            message = f"`{name}` gives {kind_of(module)}, not a network"
            raise PluginError(message, "return a torch.nn.Module")
        # One that is handed out twice would be trained twice.
        network: nn.Module = called(plugin, copy.deepcopy, module)
        _try(plugin, network, classes, shape)
    return network.train()


def _try(plugin: Plugin, module: nn.Module, classes: int, shape: Shape) -> None:
    pictures = torch.zeros(2, *shape)
    size = "x".join(map(str, shape))
    try:
        with torch.no_grad():
            scores = module.cpu().eval()(pictures)
    except Exception as error:
        message = f"the network of `{plugin.name}` cannot take pictures of {size}: {told(error)}"
        raise PluginError(message, place(error, plugin)) from error
    wanted = (2, classes)
    if not isinstance(scores, Tensor):
        message = f"the network of `{plugin.name}` gives {kind_of(scores)}, not scores"
        raise PluginError(message, f"give one tensor [N, {classes}]")
    if tuple(scores.shape) != wanted or not scores.is_floating_point():
        given = f"{tuple(scores.shape)} of {str(scores.dtype).removeprefix('torch.')}"
        raise PluginError(
            f"the network of `{plugin.name}` gives scores {given} for 2 pictures of {size}; {wanted} is needed",
            f"end it with one output for each of the {classes} classes",
        )
