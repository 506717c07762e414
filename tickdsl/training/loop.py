"""The training loop: optimiser steps `start` to `stop` of a recipe, with results that interruptions do not change.

Steps are counted from the recipe's start. A training that starts at step k has the same learning rates, batches and
augmentations as an uninterrupted one from step k on, so rewinding replays them. Within an epoch, nothing waits for the
device. On a CPU, equal trainings end with bit-identical weights; on CUDA, equal up to rounding, since cuDNN picks the
fastest algorithms and some sum in no fixed order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing
from functools import partial

import torch
from torch import Tensor, nn

from tickdsl.training.checkpoints import Checkpointer
from tickdsl.training.data.batch_stream import BatchStream
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.data.device_dataset import DeviceDataset
from tickdsl.training.history import EpochReport, TrainingHistory
from tickdsl.training.job import StateDict, TrainingJob
from tickdsl.training.measured_choices import InMemoryChoices, MeasuredChoices
from tickdsl.training.parallel.ranks import Ranks
from tickdsl.training.parallel.shares import batch_share
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.rng import stream_seed
from tickdsl.training.sparsifiers.protocol import Sparsifier
from tickdsl.training.step.distillation import Distillation, Distiller
from tickdsl.training.step.optimiser_step import OptimiserStep
from tickdsl.training.training_run import TrainingRun
from tickdsl.training.usage import Usage

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
    sparsifier: Sparsifier | None = None,
    choices: MeasuredChoices = _IN_MEMORY_CHOICES,
    layout: str | None = None,
    compile: bool | None = None,
    measure_every: int = 0,
    usage: Usage | None = None,
    ranks: Ranks | None = None,
) -> TrainingHistory:
    """Train `model` in place from step `start` to step `stop` (default: the recipe's end), on `device`.

    The optimiser starts with fresh state, and the model is left on `device`, in train mode.

    masks: True where a weight is kept; pruned weights are exactly zero after every step.
    checkpoint: saves the training's state, and resumes from it.
    on_epoch: called with each epoch's report once the epoch is tested.
    before_step: called before every step; an exception that it raises ends the training, to be resumed from its
    checkpoint.
    step_callbacks: by step; called on reaching it with the weights (name to tensor, live: copy them), which are
    bit-identical to those of a training that stops there. A resumed training does not repeat the calls made before
    its checkpoint.
    distillation: the teacher to learn from in addition to the labels.
    sparsifier: changes masks or weights between the steps; the history has the masks of the end. Layers are then not
    trained as sparse matrices.
    choices: decides by measuring which linear layers with few weights left train faster as sparse matrices; their
    results are equal up to rounding.
    layout: the network's memory layout, a name in `memory_layouts.LAYOUTS` (default: the one that usually trains
    faster).
    compile: whether torch compiles the network (default: if the recipe says `compile=on`).
    measure_every: how many steps apart the validation loss is measured too (0: after epochs only), at steps that are
    multiples of it and at the last one. It changes nothing in the training.
    usage: counts the time and the energy that the training uses.
    ranks: the processes that share every batch; each of them calls this function with the same arguments, except
    for the callbacks. The result is that of one process up to the order of sums, apart from dropout and other
    draws of a network, of which each process has its own. Only process 0 has a checkpointer.

    A recipe with `patience` can end the training before `stop`. A resumed training keeps the sparse layers, the layout
    and the compilation that it began with.

    Raises TickdslError if an epoch's loss is not finite, or if the recipe does not fit the data or the device;
    MaskError if a pruned weight is not zero at the end.
    """
    job = TrainingJob(
        model=model, data=data, recipe=recipe, seed=seed, start=start, stop=stop, masks=masks or {},
        checkpoint=checkpoint, on_epoch=on_epoch, step_callbacks=step_callbacks or {}, distillation=distillation,
        sparsifier=sparsifier, layout=layout, compile=compile, measure_every=measure_every, usage=usage or Usage(),
        ranks=ranks,
    )  # fmt: skip
    target_device = torch.device(device)
    run = TrainingRun(job, DeviceDataset(data, recipe, target_device), target_device)
    distiller = run.make_distiller()
    checkpoint_state = run.attach_checkpoint()
    try:
        optimiser_step = run.prepare(choices, checkpoint_state, distiller)
        with isolated_rng(target_device), run.device_context():
            _take_steps(run, optimiser_step, distiller, before_step)
        run.keep_average()
        optimiser_step.release()
    finally:
        if checkpoint is not None:
            checkpoint.detach()
        run.sparse_layers.restore_dense()
    return run.finish()


def isolated_rng(device: torch.device) -> AbstractContextManager[None]:
    """Restore torch's global generators on exit: every step seeds them, since dropout draws from them."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def _take_steps(
    run: TrainingRun, optimiser_step: OptimiserStep, distiller: Distiller | None, before_step: Callable[[], None] | None
) -> None:
    """Take the remaining steps."""
    job = run.job
    run.begin()
    share_of = None
    if job.ranks is not None:
        share_of = partial(batch_share, rank=job.ranks.rank, ranks=job.ranks.size, micro_batch=job.recipe.micro_batch)
    with closing(BatchStream(run.dataset, [job.seed], run.stop, run.count_wait, share_of)) as batch_stream:
        while not run.finished:
            _take_step(run, batch_stream, optimiser_step, distiller, before_step)
            if job.checkpoint is not None and not run.finished:
                job.checkpoint.save_if_due()


def _take_step(
    run: TrainingRun,
    batch_stream: BatchStream,
    optimiser_step: OptimiserStep,
    distiller: Distiller | None,
    before_step: Callable[[], None] | None,
) -> None:
    if before_step is not None:
        before_step()
    images, targets, indices = batch_stream.batch(run.step)
    share = batch_stream.share(run.step)
    soft_targets = None
    if distiller is not None and distiller.active_at(run.step):
        soft_targets = distiller.soft_targets(images, indices)
    seed = stream_seed(run.job.seed, "dropout", run.step)
    if run.replaces_step():
        run.change_masks(run.step, optimiser_step.gradients(images, targets, soft_targets, seed=seed, share=share))
    else:
        run.before_step()
        optimiser_step.take(images, targets, soft_targets, lr=run.lr, momentum=run.momentum, seed=seed, share=share)
        run.change_masks_if_due(run.step + 1)
    weight = run.task.weight(targets) if share is None else run.task.weight(targets[:1]) * share.batch
    run.after_step(weight)
