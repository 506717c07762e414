"""Which trainings can be done as one stacked network, and whether that pays."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Sequence

import attrs
import torch
from torch import Tensor, nn

from tickdsl.training import measured_choices as measured
from tickdsl.training.data.device_dataset import BatchStream, DeviceDataset
from tickdsl.training.devices import autocast_type
from tickdsl.training.job import TrainingJob
from tickdsl.training.loop import isolated_rng
from tickdsl.training.measured_choices import InMemoryChoices, MeasuredChoices
from tickdsl.training.stacked.network import StackedNetwork
from tickdsl.training.stacked.training import StackedStep
from tickdsl.training.step.cuda_graphs import WARM_UP_STEPS
from tickdsl.training.training_run import TrainingRun

#: Pictures that the networks are compared on.
_COMPARED_IMAGES = 16
#: How far the stacked networks' scores and statistics may lie from the single ones', as a share of their size:
#: rounding, also that of bf16, lies closer, and a network that mixes its members does not.
_TOLERANCE = 0.05
#: Steps on a GPU between two waits for it.
STEPS_PER_SYNC = 8


def stacking_obstacle(jobs: Sequence[TrainingJob], choices: MeasuredChoices, device: torch.device) -> str | None:
    """What stands against training these together; None where nothing does. Their networks are left as they are."""
    first = jobs[0]
    for key, reason in (
        (lambda job: job.recipe, "their recipes differ"),
        (lambda job: job.data.fingerprint, "their data differ"),
        (lambda job: (job.start, job.stop), "they begin or end at different steps"),
        (lambda job: job.layout, "their memory layouts differ"),
        (lambda job: _shapes(job.model), "their networks differ in shape"),
    ):  # type: tuple[Callable[[TrainingJob], object], str]
        if any(key(job) != key(first) for job in jobs):
            return reason
    if any(job.distillation is not None for job in jobs):
        return "they learn from a teacher"
    if any(job.should_compile for job in jobs):
        return "torch compiles their networks"
    dataset = DeviceDataset(first.data, first.recipe, device)
    if any(TrainingRun(job, dataset, device).choose_sparse_layers(choices) for job in jobs):
        return "layers of theirs are trained sparsely"
    return _stacking_mismatch([job.model for job in jobs], dataset, autocast_type(first.recipe.precision, device))


def _shapes(network: nn.Module) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in network.state_dict().items()}


def _stacking_mismatch(
    networks: Sequence[nn.Module], dataset: DeviceDataset, autocast: torch.dtype | None
) -> str | None:
    """What becomes apparent when the networks are really stacked, and compute the same pictures as each alone."""
    images = dataset.normalise(dataset.images[:_COMPARED_IMAGES])
    single_copies, stacked_copies = ([copy.deepcopy(network).train() for network in networks] for _ in range(2))
    precision = torch.autocast(images.device.type, dtype=autocast, enabled=autocast is not None)
    with isolated_rng(images.device), torch.no_grad(), precision:
        try:
            stacked_network = StackedNetwork(stacked_copies)
            with torch.enable_grad():
                train_logits = stacked_network(torch.stack([images] * len(networks), 1))
                torch.autograd.backward(train_logits.float().sum())
            logits = [train_logits.detach(), stacked_network.eval()(images)]
        except Exception as error:  # whatever a network's own code makes of stacked tensors
            first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            return f"torch cannot stack their networks: {first_line}"
        expected = [torch.stack([network(images) for network in single_copies], 1)]
        expected += [torch.stack([network.eval()(images) for network in single_copies], 1)]
    states = [
        pair
        for single, stacked in zip(single_copies, stacked_copies, strict=True)
        for pair in zip(single.state_dict().values(), stacked.state_dict().values(), strict=True)
    ]
    if all(_close(single, stacked) for single, stacked in [*zip(expected, logits, strict=True), *states]):
        return None
    return "stacked, their networks compute something else"


def _close(expected_tensor: Tensor, actual_tensor: Tensor) -> bool:
    distance = (expected_tensor.double() - actual_tensor.double()).norm()
    return bool(distance <= _TOLERANCE * expected_tensor.double().norm())


def stacking_speedup(jobs: Sequence[TrainingJob], device: torch.device) -> float:
    """How many times faster a stacked optimiser step is than one of each training alone; 0 where it cannot be taken,
    for want of memory or of an operator.
    """
    threads = torch.get_num_threads() if device.type == "cpu" else None
    try:
        with isolated_rng(device):
            return len(jobs) * measured.speedup(
                make_step_benchmark(jobs, device), make_step_benchmark(jobs[:1], device), threads
            )
    except RuntimeError:
        return 0.0
    finally:
        if device.type == "cuda":
            gc.collect()  # captured steps refer to themselves, and hold memory of the device


def make_step_benchmark(jobs: Sequence[TrainingJob], device: torch.device) -> Callable[[], None]:
    """What takes optimiser steps with copies of the networks, stacked where there are several; it waits for the device.

    On a CPU one step at a time, on CUDA `STEPS_PER_SYNC`, as captured there.
    """
    first = jobs[0]
    dataset = DeviceDataset(first.data, first.recipe, device)
    runs = [
        TrainingRun(attrs.evolve(job, model=copy.deepcopy(job.model), checkpoint=None), dataset, device) for job in jobs
    ]
    for run in runs:
        run.set_layout(None)
    step = StackedStep(runs) if len(runs) > 1 else runs[0].prepare(InMemoryChoices(), None, None)
    batch_stream = BatchStream(dataset, [run.job.seed for run in runs])
    steps = STEPS_PER_SYNC if device.type == "cuda" else 1

    def take_steps() -> None:
        with runs[0].device_context():
            for _ in range(steps):
                batch = batch_stream.batch(0)
                step.take(batch.images, batch.labels, None, lr=1e-6, momentum=None, seed=0)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for _ in range(WARM_UP_STEPS + 1 if device.type == "cuda" else 0):
        take_steps()
    return take_steps
