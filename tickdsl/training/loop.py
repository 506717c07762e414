"""The training loop: optimiser steps `start` to `stop` of a recipe, the same bits however often it is interrupted.

Steps are counted on the recipe's clock. A training that starts at step k sees the rates, batches and alterations
that an uninterrupted one sees from step k on, so rewinding replays them. Nothing waits for the device within
an epoch. On CUDA the bits are equal but for rounding: there cuDNN takes the algorithms that it finds fastest, and some
sum in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from tickdsl.training.checkpoints import Checkpointer
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.data.device_dataset import BatchStream, DeviceDataset
from tickdsl.training.history import EpochReport, TrainingHistory
from tickdsl.training.job import StateDict, TrainingJob
from tickdsl.training.measured_choices import InMemoryChoices, MeasuredChoices
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.rng import stream_seed
from tickdsl.training.step.distillation import Distillation, Distiller
from tickdsl.training.step.optimiser_step import OptimiserStep
from tickdsl.training.training_run import TrainingRun

_IN_MEMORY_CHOICES = InMemoryChoices()


def train(
    model: nn.Module,
    data: Dataset,
    recipe: Recipe,
    *,
    seed: int,
    start: int = 0,
    stop: int | None = None,
    masks: Mapping[str, Tensor] | None = None,
    device: torch.device | str = "cpu",
    checkpoint: Checkpointer | None = None,
    on_epoch: Callable[[EpochReport], None] | None = None,
    before_step: Callable[[], None] | None = None,
    step_callbacks: Mapping[int, Callable[[StateDict], None]] | None = None,
    distillation: Distillation | None = None,
    choices: MeasuredChoices = _IN_MEMORY_CHOICES,
    layout: str | None = None,
    compile: bool | None = None,
) -> TrainingHistory:
    """Train `model` in place from step `start` to step `stop` (default: the recipe's end), on `device`.

    The optimiser's state is fresh at `start`. masks: True where a weight is kept; weights that are gone are exactly
    zero after every step. on_epoch is told of each epoch, once tested. before_step is called before every step;
    what it raises ends the training, which goes on from its checkpoint. step_callbacks: the weights are handed over
    (name to tensor, live: copy them) on reaching a step, bit-equal to a training that stops there; after
    an interruption, those that the checkpoint had passed are not handed over again. distillation: who teaches beside
    the labels. choices: what this machine does faster; linear layers of which little is left are trained sparsely where
    that pays, equal but for rounding. layout: of the network in memory, a name in `devices.LAYOUTS` (default: the one
    that usually fits). compile: whether torch compiles the network (default: where the recipe says `on`). A training
    that is continued keeps to what was chosen when it began.
    The model is left on `device`, in train mode.

    Raises TickdslError where an epoch's loss is not finite, as soon as that is known, or the recipe does not fit the
    data or the device; MaskError where a pruned weight is not zero.
    """
    job = TrainingJob(
        model=model, data=data, recipe=recipe, seed=seed, start=start, stop=stop, masks=masks or {},
        checkpoint=checkpoint, on_epoch=on_epoch, step_callbacks=step_callbacks or {}, distillation=distillation,
        layout=layout, compile=compile,
    )  # fmt: skip
    target_device = torch.device(device)
    run = TrainingRun(job, DeviceDataset(data, recipe, target_device), target_device)
    distiller = run.make_distiller()
    checkpoint_state = run.attach_checkpoint()
    try:
        optimiser_step = run.prepare(choices, checkpoint_state, distiller)
        with isolated_rng(target_device), run.device_context():
            _take_steps(run, optimiser_step, distiller, before_step)
        optimiser_step.release()
    finally:
        if checkpoint is not None:
            checkpoint.detach()
        run.sparse_layers.restore_dense()
    return run.finish()


def isolated_rng(device: torch.device) -> AbstractContextManager[None]:
    """Torch's own generators, from which dropout draws, are set for every step, and put back afterwards."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def _take_steps(
    run: TrainingRun, optimiser_step: OptimiserStep, distiller: Distiller | None, before_step: Callable[[], None] | None
) -> None:
    """Take the remaining steps."""
    job = run.job
    batch_stream = BatchStream(run.dataset, [job.seed])
    run.begin()
    while not run.finished:
        if before_step is not None:
            before_step()
        images, labels, indices = batch_stream.batch(run.step)
        soft_targets = None
        if distiller is not None and distiller.active_at(run.step):
            soft_targets = distiller.soft_targets(images, indices)
        optimiser_step.take(
            images, labels, soft_targets, lr=run.lr, momentum=run.momentum,
            seed=stream_seed(job.seed, "dropout", run.step),
        )  # fmt: skip
        run.after_step(len(labels))
        if job.checkpoint is not None and not run.finished:
            job.checkpoint.save_if_due()
