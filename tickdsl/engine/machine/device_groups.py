"""`--gpus-per-training N`: the devices of a run in groups, each of which trains one network at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from tickdsl.engine.machine.job_limits import available_cores
from tickdsl.errors import TickdslError
from tickdsl.plan.steps import Step
from tickdsl.plan.study import Study
from tickdsl.plurals import agreeing, plural
from tickdsl.training.device_choice import names_of_devices
from tickdsl.training.devices import AnyDevice
from tickdsl.training.recipes.recipe import Recipe


def device_groups(devices: Sequence[AnyDevice], size: int) -> list[tuple[str, ...]]:
    """The devices in groups of `size`; on a CPU, each member of a group is a process on it.

    Raises TickdslError if there are fewer GPUs.
    """
    names = [str(device) for device in devices]
    if size == 1 or devices[0].type != "cuda":
        return [(name,) * size for name in names]
    if len(names) < size:
        if devices[0].index is None and torch.cuda.device_count() >= size:
            hint = f"name them: --device cuda:{','.join(map(str, range(size)))}, or use --device auto"
        else:
            hint = "use --gpus-per-training 1" if len(names) == 1 else f"use at most {len(names)}, or more GPUs"
        raise TickdslError(
            f"--gpus-per-training {size}: this run has {plural(len(names), 'GPU')}, {names_of_devices(names)}", hint
        )
    return [tuple(names[first : first + size]) for first in range(0, len(names) - size + 1, size)]


def default_groups(device: str, study: Study, groups: int, size: int) -> int:
    """The default number of trainings at the same time: one on each group of GPUs; on a CPU as many as have cores."""
    on_machine = max(1, available_cores() // size) if device == "cpu" else groups
    return max(1, min(on_machine, study.trainings))


def require_large_batches(steps: Iterable[Step], size: int) -> None:
    """Raise TickdslError if a training has fewer images in a batch than processes to share them."""
    for step in steps:
        if step.operation == "train" and (batch := Recipe.from_dict(step.args["recipe"]).batch) < size:
            images = plural(batch, "image")
            raise TickdslError(
                f"--gpus-per-training {size}: a training has `batch={batch}`, {images} for {size} to share",
                f"use --gpus-per-training {batch} or fewer, or a larger `batch=`",
            )


def notes_on_groups(devices: Sequence[AnyDevice], groups: Sequence[tuple[str, ...]], stack: int | None) -> list[str]:
    """What of the machine, or of the command, is not used if several devices train one network."""
    notes = []
    used = {name for group in groups for name in group}
    idle = [str(device) for device in devices if str(device) not in used]
    size = len(groups[0])
    if idle:
        notes.append(
            f"--gpus-per-training {size}: {names_of_devices(idle)} {agreeing(len(idle), 'is')} not used, since "
            f"{plural(len(devices), 'GPU')} {agreeing(len(devices), 'is')} not a multiple of {size}"
        )
    if stack not in (None, 1):
        notes.append(f"--stack {stack} has no effect: a training that {size} processes share is not stacked")
    return notes
