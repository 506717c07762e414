"""The backward pass of a batch that several processes share: the gradients that one process would have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from tickdsl.plugins import Call
from tickdsl.training.parallel.batch_norm import SharedBatchNorm
from tickdsl.training.parallel.ranks import OutOfStepError, Ranks
from tickdsl.training.parallel.shares import BatchShare, batch_share
from tickdsl.training.recipes.losses import builtin_loss
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.rng import stream_seed
from tickdsl.training.step.distillation import Distiller
from tickdsl.training.step.losses import TrainingLoss
from tickdsl.training.tasks import Outputs, Phase, Task, is_builtin

#: The built-in losses that are no means over the samples of a batch.
_OF_WHOLE_BATCHES = ("dice",)


def adds_up(task: Task, recipe: Recipe) -> bool:
    """Whether the loss of a batch is the mean of those of its parts, weighted by what `TrainingLoss.counted` returns.

    Nothing is known of losses and tasks of one's own, so they get the outputs for whole batches.
    """
    if not is_builtin(task):
        return False
    if recipe.loss is None:
        return True
    return builtin_loss(recipe.loss) is not None and Call.parse(recipe.loss).name not in _OF_WHOLE_BATCHES


class SharedBackward:
    """Computes the gradients of batches together with the other processes, each from its own rows.

    After each batch, all processes have the same gradients and the same loss, which are those of one process up to the
    order of sums.
    """

    def __init__(
        self,
        ranks: Ranks,
        task: Task,
        recipe: Recipe,
        loss: TrainingLoss,
        distiller: Distiller | None,
        *,
        compiled: bool,
    ) -> None:
        self._ranks, self._task, self._loss, self._distiller = ranks, task, loss, distiller
        self._adds_up = adds_up(task, recipe)
        self._micro_batch = recipe.micro_batch
        self._batch_norm = SharedBatchNorm(ranks, compiled=compiled)
        self._with_gradient: dict[int, list[bool]] = {}  # by the first parameter
        #: How many rows this process usually computes at once.
        self.usual_rows = len(self.share(recipe.batch).rows[0])

    def share(self, batch: int) -> BatchShare:
        """What this process computes of a batch of so many rows."""
        return batch_share(batch, self._ranks.rank, self._ranks.size, self._micro_batch)

    def own_seed(self, seed: int) -> int:
        """The seed of what this process draws for its rows in a step with this seed."""
        return stream_seed(seed, "process", self._ranks.rank) if self._ranks.rank else seed

    def backward(
        self,
        share: BatchShare,
        images: Tensor,
        targets: Tensor,
        soft_targets: Tensor | None,
        run: Callable[[Tensor], Outputs],
        autocast: Callable[[], AbstractContextManager[object]],
    ) -> Tensor:
        """Add this process's part to the gradients of the parameters; returns its part of the batch's loss.

        images, targets, soft_targets: the rows of the share. run: the network. The loss is summed over all terms of
        the batch, [].
        """
        lengths = [len(rows) for rows in share.rows]
        targets_by_part = self._whole(torch.split(targets, lengths), share)
        soft_parts: Sequence[Tensor | None] = [None] * len(lengths)
        if soft_targets is not None:
            soft_parts = self._whole(torch.split(soft_targets, lengths), share)
        counts = self._counts(targets_by_part, share)
        total = sum(counts)
        loss_sum = torch.zeros((), device=images.device)
        for part, some_images, some_targets, some_soft in zip(
            range(len(lengths)), torch.split(images, lengths), targets_by_part, soft_parts, strict=True
        ):
            rows = share.rows[part]
            self._batch_norm.counted = rows.counted
            with autocast(), self._batch_norm.active():
                outputs = run(some_images)
                if not self._adds_up:
                    outputs = self._whole_outputs(outputs, share.sizes[part])
                loss = self._loss.mean(outputs, some_targets)
            # What the loss of these rows counts in the micro-batch: by its terms, and by the rows.
            by_terms: Any = 1.0
            by_rows = 1.0
            if self._adds_up:
                by_terms = self._loss.counted(some_targets) * rows.counted
                if isinstance(by_terms, Tensor):
                    loss = torch.where(by_terms > 0, loss, torch.zeros_like(loss))  # the mean of no terms is no number
                    by_terms = (by_terms / counts[part].double().clamp(min=1e-12)).to(loss.dtype)
                else:
                    by_terms = by_terms / counts[part]
                by_rows = len(rows) / sum(share.sizes[part]) if rows.counted else 0.0
            loss = loss * by_terms
            if self._distiller is not None and some_soft is not None:
                loss = self._distiller.loss(outputs, some_soft, loss / (by_rows or 1.0)) * by_rows
            torch.autograd.backward(loss if len(counts) == 1 else loss * (counts[part] / total))
            if self._adds_up or self._ranks.rank == 0:
                loss_sum += loss.detach() * self._task.weight(targets[:1]) * sum(share.sizes[part])
        return loss_sum

    def phase_loss(self, phase: Phase, share: BatchShare, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """This process's part of a phase's loss, which is the mean over its rows."""
        (rows,) = share.rows  # a step with phases has no micro-batches
        self._batch_norm.counted = rows.counted
        with self._batch_norm.active():
            loss = phase.loss(model, images, targets)
        return loss * (len(rows) / share.batch if rows.counted else 0.0)

    def add_up(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> None:
        """Add up the gradients of the parameters, and a loss [], over all processes, in place.

        Parameters without a gradient have none in any process. Raises OutOfStepError if it has changed which do.
        """
        with_gradient = [parameter.grad is not None for parameter in parameters]
        known = self._with_gradient.get(id(parameters[0]))
        if known is None:
            self._ranks.require_equal("which parameters have a gradient", with_gradient)
            self._with_gradient[id(parameters[0])] = with_gradient
        elif known != with_gradient:
            raise OutOfStepError("other parameters have a gradient than in the first step")
        self._ranks.add_up([*(p.grad for p in parameters if p.grad is not None), loss])

    def _whole(self, parts: Sequence[Tensor], share: BatchShare) -> list[Tensor]:
        """Parts of a batch, by micro-batch: the rows of all processes, if the loss needs them, else those given."""
        if self._adds_up:
            return list(parts)
        return [self._ranks.gather_rows(part, sizes) for part, sizes in zip(parts, share.sizes, strict=True)]

    def _whole_outputs(self, outputs: Outputs, sizes: tuple[int, ...]) -> Outputs:
        """The outputs for the rows of all processes."""
        gather: Any = _GatherRows.apply
        return tree_map_only(Tensor, lambda tensor: gather(tensor, self._ranks, sizes), outputs)

    def _counts(self, targets: Sequence[Tensor], share: BatchShare) -> list[Any]:
        """By micro-batch, how many terms the loss of the rows of all processes averages."""
        counts = [self._loss.counted(each) for each in targets]
        if not self._adds_up:
            return counts
        if not isinstance(counts[0], Tensor):
            return [self._loss.counted(each[:1]) * sum(sizes) for each, sizes in zip(targets, share.sizes, strict=True)]
        own = torch.stack([count * rows.counted for count, rows in zip(counts, share.rows, strict=True)])
        self._ranks.add_up([own])
        return list(own)


class _GatherRows(torch.autograd.Function):
    """The rows of all processes. The gradient of a process's rows is that of its own copy of what is computed of them.

    All copies are equal, so every process passes back the gradient of the one result, and of its own rows only.
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, ranks: Ranks, sizes: tuple[int, ...]) -> Tensor:
        ctx.rows, ctx.first, ctx.size = len(tensor), sum(sizes[: ranks.rank]), sizes[ranks.rank]
        return ranks.gather_rows(tensor, sizes)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        own = gradients[0][ctx.first : ctx.first + ctx.size]
        if ctx.size < ctx.rows:  # a row that does not count
            own = torch.cat([own, own.new_zeros((ctx.rows - ctx.size, *own.shape[1:]))])
        return own, None, None
