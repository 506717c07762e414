"""Trial passes of a network on its training images, to measure what is faster on this machine."""

from __future__ import annotations

import copy
from collections.abc import Callable

import attrs
import torch
from torch import Tensor, nn

from tickdsl.engine.dense_networks import DenseNetwork
from tickdsl.plan.steps import Step
from tickdsl.records.canonical import canonical_json
from tickdsl.training.catalogue.input_shapes import NamedShapes, shape_in_words
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.memory_layouts import LAYOUTS, set_memory_format
from tickdsl.training.named_tensors import run_network
from tickdsl.training.recipes.recipe import Recipe


@attrs.frozen
class SpeedTrial:
    """A trial of the dense network of a step on its first batch, on the CPU."""

    step: Step
    network: DenseNetwork
    data: Dataset
    recipe: Recipe

    @property
    def label(self) -> str:
        """Everything that a measured time depends on except the machine; part of the keys of stored choices."""
        model, size = self.step.args["model"], self.network.shape
        shape = shape_in_words(size) if isinstance(size, NamedShapes) else "x".join(map(str, size))
        options = f" {canonical_json(model['options']).decode()}" if model["options"] else ""
        return (
            f"{model['name']}{options} on {shape}, "
            f"{self.recipe.batch} pictures, {torch.get_num_threads()} threads, torch {torch.__version__}"
        )

    def images(self, count: int) -> Tensor:
        """The first training inputs, preprocessed: [count, …]."""
        return self.data.preprocess()(self.data.train_inputs[:count])

    def training_pass(
        self, layout: str, wrap: Callable[[nn.Module], Callable[..., Tensor]] = lambda module: module
    ) -> Callable[[], object]:
        """A function that runs a forward and backward pass of a copy of the network in a memory layout.

        `wrap` may replace the forward pass, e.g. by a compiled one.
        """
        module = copy.deepcopy(self.network.module).train()
        set_memory_format(module, LAYOUTS[layout])
        forward = wrap(module)
        images = self.images(self.recipe.batch)
        loss, targets = self.data.task.loss, self.data.train_targets[: self.recipe.batch]
        trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
        return lambda: torch.autograd.grad(loss(run_network(forward, images), targets), trainable)
