"""Networks from plug-ins, built with the plan's seed and checked with a forward pass."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from tickdsl.plugins import Plugin, PluginError, call_plugin, load_plugin, require_plugin, type_in_words
from tickdsl.plugins.loading import describe_error, error_location
from tickdsl.plurals import plural
from tickdsl.training.catalogue.input_shapes import InputShape, NamedShapes, inputs_in_words
from tickdsl.training.example_inputs import example_inputs
from tickdsl.training.models.keyword_inputs import require_keywords
from tickdsl.training.named_tensors import run_network
from tickdsl.training.rng import stream_seed


class ModelFactory(Protocol):
    """A plug-in's model: builds a network with initial weights for `classes` classes and images of `shape` (C, H, W).

    Of data with several inputs, `shape` is a mapping: the shape of each by its name; the network takes them by keyword.

    The network maps float32 images [N, C, H, W] to logits [N, classes]. Draw random weights from torch's default
    generator, which is seeded with the plan's seed. Create the classifier last, so that networks for other numbers of
    classes share all other weights. Further parameters with defaults become options of `model` in plans.
    """

    def __call__(self, classes: int, shape: InputShape, /) -> nn.Module: ...


def build(name: str, classes: int, shape: InputShape, seed: int, options: Mapping[str, Any]) -> nn.Module:
    """Build the network of the plug-in `name`. Raises PluginError if it fails, or returns no suitable network."""
    plugin = require_plugin("model", name)
    factory = cast(ModelFactory, load_plugin(plugin))
    extra_options = {word.replace("-", "_"): value for word, value in options.items()}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(stream_seed(seed, "init"))
        module = call_plugin(plugin, cast(Callable[..., Any], factory), classes, shape, **extra_options)
        if not isinstance(module, nn.Module):
            message = f"`{name}` returns {type_in_words(module)}, not a network"
            raise PluginError(message, "return a torch.nn.Module")
        # A factory may return the same module twice; each training needs its own.
        network: nn.Module = call_plugin(plugin, copy.deepcopy, module)
        _check_forward(plugin, network, classes, shape)
    return network.train()


def _check_forward(plugin: Plugin, module: nn.Module, classes: int, shape: InputShape) -> None:
    if isinstance(shape, NamedShapes):
        require_keywords(plugin.name, module.forward, shape)
    inputs, size = example_inputs(2, shape), inputs_in_words(shape)
    try:
        with torch.no_grad():
            outputs = run_network(module.cpu().eval(), inputs)
    except Exception as error:
        message = f"the network of `{plugin.name}` fails on {size}: {describe_error(error)}"
        raise PluginError(message, error_location(error, plugin)) from error
    expected = [2, classes]
    if not isinstance(outputs, Tensor):
        if all(isinstance(leaf, Tensor) and len(leaf) == 2 for leaf in tree_leaves(outputs) or [None]):
            return  # several outputs: its task says whether they fit
        message = f"the network of `{plugin.name}` returns {type_in_words(outputs)}, not logits"
        raise PluginError(message, f"return one tensor [N, {classes}]")
    fits = list(outputs.shape) == expected or (outputs.dim() > 2 and len(outputs) == 2)  # one output per pixel or token
    if not fits or not outputs.is_floating_point():
        actual = f"{str(outputs.dtype).removeprefix('torch.')} {list(outputs.shape)}"
        raise PluginError(
            f"the network of `{plugin.name}` returns {actual} for 2 {size}, not float logits {expected}",
            f"end it with one output for each of the {plural(classes, 'class')}",
        )
