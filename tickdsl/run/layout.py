"""Which memory layout a network trains in: the usual one, unless another was measured to be faster on this machine."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn import functional as F

from tickdsl.plan.steps import Step
from tickdsl.records.canonical import canonical
from tickdsl.run.context import Context
from tickdsl.run.networks import Network
from tickdsl.training.augment import Normalise
from tickdsl.training.choices import pays
from tickdsl.training.data import Dataset
from tickdsl.training.devices import LAYOUTS, autocast_type, fitting_layout, set_memory_format
from tickdsl.training.recipes import Recipe


def layout(step: Step, context: Context, found: Network, data: Dataset, recipe: Recipe) -> str:
    """A name in `devices.LAYOUTS` for the trainings of a network, dense or pruned.

    Asked once a machine, network, batch and number of threads; on a GPU it is the rule that decides.
    """
    autocast = autocast_type(recipe.precision, context.device)
    usual = fitting_layout(found.module, context.device, autocast)
    if usual == "contiguous" or context.device.type != "cpu" or autocast is not None:
        return usual
    model, shape = step.args["model"], "x".join(map(str, found.shape))
    options = f" {canonical(model['options']).decode()}" if model["options"] else ""
    threads = torch.get_num_threads()
    question = (
        f"contiguous instead of channels_last for {model['name']}{options} on {shape}, "
        f"{recipe.batch} pictures, {threads} threads, torch {torch.__version__}"
    )

    def measure() -> bool:
        pictures = Normalise(data.mean, data.std, context.device)(data.train_images[: recipe.batch])
        answers = data.train_labels[: recipe.batch]

        def network(memory_format: torch.memory_format) -> nn.Module:
            module = copy.deepcopy(found.module).train()
            set_memory_format(module, memory_format)
            return module

        def both_ways(module: nn.Module) -> object:
            wanted = [parameter for parameter in module.parameters() if parameter.requires_grad]
            return torch.autograd.grad(F.cross_entropy(module(pictures), answers), wanted)

        plain, other = network(LAYOUTS["contiguous"]), network(LAYOUTS["channels_last"])
        with torch.random.fork_rng(devices=[]):  # dropout draws
            return pays(lambda: both_ways(plain), lambda: both_ways(other), threads)

    return "contiguous" if context.choices.settle(question, measure) else "channels_last"
