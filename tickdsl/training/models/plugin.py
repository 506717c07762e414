"""Networks that users add: built under the plan's seed, and tried once with the data's pictures."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from tickdsl.plugins import Plugin, PluginError, call_plugin, load_plugin, require_plugin, type_in_words
from tickdsl.plugins.loading import describe_error, error_location
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
    plugin = require_plugin("model", name)
    factory = cast(ModelFactory, load_plugin(plugin))
    extra_options = {word.replace("-", "_"): value for word, value in options.items()}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(stream_seed(seed, "init"))
        module = call_plugin(plugin, cast(Callable[..., Any], factory), classes, shape, **extra_options)
        if not isinstance(module, nn.Module):
            message = f"`{name}` gives {type_in_words(module)}, not a network"
            raise PluginError(message, "return a torch.nn.Module")
        # One that is handed out twice would be trained twice.
        network: nn.Module = call_plugin(plugin, copy.deepcopy, module)
        _check_forward(plugin, network, classes, shape)
    return network.train()


def _check_forward(plugin: Plugin, module: nn.Module, classes: int, shape: Shape) -> None:
    images = torch.zeros(2, *shape)
    size = "x".join(map(str, shape))
    try:
        with torch.no_grad():
            logits = module.cpu().eval()(images)
    except Exception as error:
        message = f"the network of `{plugin.name}` cannot take pictures of {size}: {describe_error(error)}"
        raise PluginError(message, error_location(error, plugin)) from error
    expected = (2, classes)
    if not isinstance(logits, Tensor):
        message = f"the network of `{plugin.name}` gives {type_in_words(logits)}, not scores"
        raise PluginError(message, f"give one tensor [N, {classes}]")
    if tuple(logits.shape) != expected or not logits.is_floating_point():
        actual = f"{tuple(logits.shape)} of {str(logits.dtype).removeprefix('torch.')}"
        raise PluginError(
            f"the network of `{plugin.name}` gives scores {actual} for 2 pictures of {size}; {expected} is needed",
            f"end it with one output for each of the {classes} classes",
        )
