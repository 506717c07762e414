"""Which memory layout a network trains in: the usual one, unless another was measured to be faster on this machine."""

from __future__ import annotations

import torch

from tickdsl.engine.machine.speed_trial import SpeedTrial
from tickdsl.training.devices import autocast_type
from tickdsl.training.measured_choices import MeasuredChoices
from tickdsl.training.memory_layouts import preferred_layout
from tickdsl.training.timing import is_clearly_faster


def layout(trial: SpeedTrial, device: torch.device, choices: MeasuredChoices) -> str:
    """A name in `memory_layouts.LAYOUTS` for the trainings of a network, dense or pruned.

    Asked once a machine, network, batch and number of threads; on a GPU it is the rule that decides.
    """
    autocast = autocast_type(trial.recipe.precision, device)
    default_layout = preferred_layout(trial.network.module, device, autocast)
    if default_layout == "contiguous" or device.type != "cpu" or autocast is not None:
        return default_layout

    def measure() -> bool:
        with torch.random.fork_rng(devices=[]):  # dropout draws
            return is_clearly_faster(
                trial.training_pass("contiguous"), trial.training_pass("channels_last"), torch.get_num_threads()
            )

    question = f"contiguous instead of channels_last for {trial.label}"
    return "contiguous" if choices.settle(question, measure) else "channels_last"
