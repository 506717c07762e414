"""Whether trainings can run as one stacked network, and how much faster that is."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Sequence

import attrs
import torch
from torch import Tensor, nn

from tickdsl.training.data.batch_stream import BatchStream
from tickdsl.training.data.device_dataset import DeviceDataset
from tickdsl.training.devices import autocast_type
from tickdsl.training.job import TrainingJob
from tickdsl.training.loop import isolated_rng
from tickdsl.training.measured_choices import InMemoryChoices, MeasuredChoices
from tickdsl.training.stacked.network import StackedNetwork
from tickdsl.training.stacked.optimiser_step import StackedStep
from tickdsl.training.step.captured_step import WARM_UP_STEPS
from tickdsl.training.timing import speedup
from tickdsl.training.training_run import TrainingRun

#: Number of images that single and stacked networks are compared on.
_COMPARED_IMAGES = 16
#: Largest relative difference between the logits and statistics of stacked and single networks: larger than rounding,
#: even in bf16, and smaller than the error of a stack that mixes its members.
_TOLERANCE = 0.05
#: Steps that a benchmark takes on a GPU before it waits for it.
STEPS_PER_SYNC = 8


def stacking_obstacle(jobs: Sequence[TrainingJob], choices: MeasuredChoices, device: torch.device) -> str | None:
    """The reason why these trainings cannot be stacked, or None if they can. Does not change their networks."""
    first = jobs[0]
    for key, reason in (
        (lambda job: job.recipe, "their recipes differ"),
        (lambda job: job.data.fingerprint, "their data differ"),
        (lambda job: (job.start, job.stop), "they start or end at different steps"),
        (lambda job: job.layout, "their memory layouts differ"),
        (lambda job: _shapes(job.model), "their networks differ in shape"),
    ):  # type: tuple[Callable[[TrainingJob], object], str]
        if any(key(job) != key(first) for job in jobs):
            return reason
    if any(job.distillation is not None for job in jobs):
        return "they learn from a teacher"
    if first.recipe.patience.amount:
        return "each of them stops when its own patience is over"
    if any(job.measure_every for job in jobs):
        return "their validation loss is measured within epochs"
    if first.data.task.phases:
        return "their parts are trained in turn"
    if any(job.sparsifier is not None for job in jobs):
        return "their masks or weights change between steps"
    if any(job.recipe.bn_l1 for job in jobs):
        return "they penalise the scales of batch norm"
    if first.recipe.bias_lr != 1:
        return "their biases have a learning rate of their own"
    if first.recipe.clip:
        return "the gradient of each of them is clipped by its own norm"
    if first.recipe.accumulate > 1:
        return "their batches are computed in parts, to need less memory"
    if first.recipe.ema:
        return "their weights are averaged"
    if first.data.named is not None:
        return "their networks take several inputs"
    if first.recipe.mixes:
        return "the images of each of them are mixed by its own draws"
    if first.recipe.has_own_optimiser:
        return "their optimiser is one of one's own, which may look at whole layers"
    if any(job.should_compile for job in jobs):
        return "their networks are compiled by torch"
    dataset = DeviceDataset(first.data, first.recipe, device)
    if any(TrainingRun(job, dataset, device).choose_sparse_layers(choices) for job in jobs):
        return "some of their layers are trained as sparse matrices"
    return _stacking_mismatch([job.model for job in jobs], dataset, autocast_type(first.recipe.precision, device))


def _shapes(network: nn.Module) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in network.state_dict().items()}


def _stacking_mismatch(
    networks: Sequence[nn.Module], dataset: DeviceDataset, autocast: torch.dtype | None
) -> str | None:
    """Stack copies of the networks and compare them with single ones; the reason why they differ, or None."""
    images = dataset.preprocess(dataset.inputs[:_COMPARED_IMAGES])
    single_copies, stacked_copies = ([copy.deepcopy(network).train() for network in networks] for _ in range(2))
    precision = torch.autocast(images.device.type, dtype=autocast, enabled=autocast is not None)
    with isolated_rng(images.device), torch.no_grad(), precision:
        try:
            stacked_network = StackedNetwork(stacked_copies)
            with torch.enable_grad():
                train_logits = stacked_network(torch.stack([images] * len(networks), 1))
                torch.autograd.backward(train_logits.float().sum())
            logits = [train_logits.detach(), stacked_network.eval()(images)]
        except Exception as error:  # a network's own code may raise anything on stacked tensors
            first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            return f"torch cannot stack their networks: {first_line}"
        expected = [torch.stack([network(images) for network in single_copies], 1)]
        expected += [torch.stack([network.eval()(images) for network in single_copies], 1)]
    states = [
        pair
        for single, stacked in zip(single_copies, stacked_copies, strict=True)
        for pair in zip(single.state_dict().values(), stacked.state_dict().values(), strict=True)
    ]
    if all(_is_close(single, stacked) for single, stacked in [*zip(expected, logits, strict=True), *states]):
        return None
    return "their networks compute different results when stacked"


def _is_close(expected: Tensor, actual: Tensor) -> bool:
    distance = (expected.double() - actual.double()).norm()
    return bool(distance <= _TOLERANCE * expected.double().norm())


def stacking_speedup(jobs: Sequence[TrainingJob], device: torch.device) -> float:
    """How many times as fast a stacked optimiser step is as one step of each training in turn.

    0 if the stacked step fails, for example because memory runs out or an operator is missing.
    """
    threads = torch.get_num_threads() if device.type == "cpu" else None
    try:
        with isolated_rng(device):
            return len(jobs) * speedup(
                make_step_benchmark(jobs, device), make_step_benchmark(jobs[:1], device), threads
            )
    except RuntimeError:
        return 0.0
    finally:
        if device.type == "cuda":
            gc.collect()  # captured steps are in reference cycles and hold GPU memory


def make_step_benchmark(jobs: Sequence[TrainingJob], device: torch.device) -> Callable[[], None]:
    """A function that takes optimiser steps with copies of the networks, stacked if there are several.

    It takes one step on a CPU and `STEPS_PER_SYNC` captured steps on CUDA, and returns once the device is done.
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
                step.take(batch.inputs, batch.targets, None, lr=1e-6, momentum=None, seed=0)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for _ in range(WARM_UP_STEPS + 1 if device.type == "cuda" else 0):
        take_steps()
    return take_steps
