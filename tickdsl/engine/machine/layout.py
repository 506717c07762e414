"""Which memory layout a network trains in: the usual one, unless another was measured to be faster on this machine."""

from __future__ import annotations

import torch

from tickdsl.engine.machine.trial import Trial
from tickdsl.training.autotune import Choices, pays
from tickdsl.training.devices import autocast_type, fitting_layout


def layout(trial: Trial, device: torch.device, choices: Choices) -> str:
    """A name in `devices.LAYOUTS` for the trainings of a network, dense or pruned.

    Asked once a machine, network, batch and number of threads; on a GPU it is the rule that decides.
    """
    autocast = autocast_type(trial.recipe.precision, device)
    usual = fitting_layout(trial.network.module, device, autocast)
    if usual == "contiguous" or device.type != "cpu" or autocast is not None:
        return usual

    def measure() -> bool:
        with torch.random.fork_rng(devices=[]):  # dropout draws
            return pays(trial.passes("contiguous"), trial.passes("channels_last"), torch.get_num_threads())

    question = f"contiguous instead of channels_last for {trial.words}"
    return "contiguous" if choices.settle(question, measure) else "channels_last"
