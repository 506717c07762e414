"""One optimiser step: forward, backward, update and masks, without waiting for the device."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from tickdsl.training.named_tensors import run_network
from tickdsl.training.parallel.ranks import Ranks
from tickdsl.training.parallel.shares import BatchShare, micro_batches
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.step import optimisers
from tickdsl.training.step.average import WeightAverage
from tickdsl.training.step.captured_step import CapturedStep, should_capture
from tickdsl.training.step.compilation import compile_model
from tickdsl.training.step.cuda_graphs import CudaGraphRecorder
from tickdsl.training.step.distillation import Distiller
from tickdsl.training.step.gradient_terms import BatchNormL1, BiasRate, GradientTerm, NormClip
from tickdsl.training.step.losses import TrainingLoss, training_loss
from tickdsl.training.step.masks import Masks
from tickdsl.training.step.shared_backward import SharedBackward
from tickdsl.training.tasks import CLASSIFY, Task


class OptimiserStep:
    """Takes the optimiser steps of one training; on CUDA, they are captured as a graph.

    `optimizer`, `loss_sum` and, if the recipe has one, `average` are its only state. loss_sum: float64, the training
    loss summed over all terms (for most tasks: images) since the caller last reset it. ranks: the processes that share
    every batch, which all have the same state; their steps are not captured.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        masks: Masks,
        distiller: Distiller | None,
        device: torch.device,
        autocast: torch.dtype | None,
        compile: bool = False,
        task: Task = CLASSIFY,
        class_weights: Tensor | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self._model, self._recipe, self._masks, self._distiller = model, recipe, masks, distiller
        self._device, self._autocast = device, autocast
        loss = self._bind_loss(task, class_weights)
        self._loss, self._counted, self._weight = loss.mean, loss.counted, task.weight
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer: Any = self._build_optimizer(recipe, task)
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self._terms: list[GradientTerm] = [BatchNormL1(model, recipe.bn_l1)] if recipe.bn_l1 else []
        if recipe.bias_lr != 1:
            self._terms.append(BiasRate(model, recipe.bias_lr))
        # After all other terms, since the norm is that of what the optimiser reads.
        self._clip = NormClip(self._parameters, masks, recipe.clip) if recipe.clip else None
        self.average = WeightAverage(model, recipe.ema) if recipe.ema else None
        self._loss_gradient: Tensor | None = None  # the loss's gradient in `backward`; None for a scalar loss
        # The last, smaller batch of an epoch, and smaller micro-batches, run uncompiled.
        self._forward: Callable[..., Any] = compile_model(model) if compile else model
        self._share = BatchShare(0, (), ())
        self._shared: SharedBackward | None = None
        if ranks is not None:
            self._shared = SharedBackward(ranks, task, recipe, loss, distiller, compiled=compile)
        # Dropout draws from torch's own generators.
        self._generators, self._seed = [torch.default_generator], 0
        if device.type == "cuda":
            index = torch.cuda.current_device() if device.index is None else device.index
            self._generators.append(torch.cuda.default_generators[index])
        self._captured: CapturedStep | None = None
        self._lr_tensor: Tensor | None = None  # a graph fixes a number when recorded, but reads a tensor at each replay
        if ranks is None and should_capture(device, recipe):
            self._lr_tensor = torch.zeros((), device=device)
            self._captured = CapturedStep(
                self._compute, batch=recipe.batch, mutated=self._mutated_tensors, reseed=self._seed_dropout,
                recorder=CudaGraphRecorder(self.optimizer),
            )  # fmt: skip

    def add_terms(self, terms: Sequence[GradientTerm]) -> None:
        """Add terms to the gradients of all steps; call this before the first one."""
        self._terms.extend(terms)

    def take(
        self,
        images: Tensor,
        targets: Tensor,
        soft_targets: Tensor | None,
        *,
        lr: float,
        momentum: float | None,
        seed: int,
        share: BatchShare | None = None,
    ) -> None:
        """Train on a batch.

        images: normalised, [B, C, H, W]; targets: [B, …]; soft_targets: what is learnt from the teacher, [B, …], if
        any; lr, momentum (None: the recipe's): those of this step; seed: for this step's dropout; share: what of the
        batch these rows are, if several processes share it.
        """
        optimisers.set_rate(self.optimizer, lr if self._lr_tensor is None else self._lr_tensor.fill_(lr))
        if momentum is not None:
            optimisers.set_momentum(self.optimizer, momentum)
        self._begin(seed, share)
        inputs = [images, targets] if soft_targets is None else [images, targets, soft_targets]
        if self._captured is None:
            self._compute(*inputs)
        else:
            self._captured(*inputs)

    def release(self) -> None:
        """Free the GPU memory of captured steps, which are in a reference cycle with it; call after the last step."""
        self._captured = None

    def gradients(
        self,
        images: Tensor,
        targets: Tensor,
        soft_targets: Tensor | None,
        *,
        seed: int,
        share: BatchShare | None = None,
    ) -> dict[str, Tensor]:
        """The gradients of a batch by parameter, those of pruned weights too; its loss counts, and no weight changes.

        The arguments are those of `take`.
        """
        self._begin(seed, share)
        self._backward(images, targets, soft_targets)
        gradients = {name: p.grad for name, p in self._model.named_parameters() if p.grad is not None}
        for parameter in self._parameters:
            parameter.grad = None
        return gradients

    def _begin(self, seed: int, share: BatchShare | None) -> None:
        self._seed = self._step_seed = seed
        if self._shared is not None and share is not None:
            self._share, self._seed = share, self._shared.own_seed(seed)
        self._seed_dropout()

    def _compute(self, images: Tensor, targets: Tensor, soft_targets: Tensor | None = None) -> None:
        self._backward(images, targets, soft_targets)
        self._apply_terms()
        if self._shared is not None and self._recipe.has_own_optimiser:  # which may draw, in all processes alike
            self._seed = self._step_seed
            self._seed_dropout()
        optimisers.update(self.optimizer)
        self._masks.apply()
        self._update_average()

    def _update_average(self) -> None:
        if self.average is not None:
            self.average.update()

    def _apply_terms(self) -> None:
        """Change the gradients as the recipe and a sparsifier say."""
        for term in self._terms:  # they skip parameters without a gradient, as those of other phases
            term.apply()
        if self._clip is not None:
            self._clip.apply()

    def _backward(self, images: Tensor, targets: Tensor, soft_targets: Tensor | None = None) -> None:
        """Compute the gradients of a batch, and add its loss to `loss_sum`."""
        for parameter in self._parameters:
            parameter.grad = None
        if self._shared is not None:
            self._backward_together(self._shared, images, targets, soft_targets)
            return
        if self._recipe.accumulate == 1:
            self._add_gradients(images, targets, soft_targets, self._recipe.batch)
            return
        count = micro_batches(len(images), self._recipe.micro_batch)
        total = self._counted(targets)
        soft_parts: Sequence[Tensor | None] = [None] * count
        if soft_targets is not None:
            soft_parts = soft_targets.tensor_split(count)
        for some_images, some_targets, some_soft in zip(
            images.tensor_split(count), targets.tensor_split(count), soft_parts, strict=True
        ):
            share = self._counted(some_targets) / total
            self._add_gradients(some_images, some_targets, some_soft, self._recipe.micro_batch, share)

    def _backward_together(
        self, shared: SharedBackward, images: Tensor, targets: Tensor, soft_targets: Tensor | None
    ) -> None:
        """Compute the gradients of a batch together with other processes, and add its loss to `loss_sum`."""

        def run(some: Tensor) -> Any:
            return run_network(self._forward if len(some) == shared.usual_rows else self._model, some)

        loss = shared.backward(self._share, images, targets, soft_targets, run, self._autocast_context)
        shared.add_up(self._parameters, loss)
        self.loss_sum.add_(loss)

    def _add_gradients(
        self, images: Tensor, targets: Tensor, soft_targets: Tensor | None, full: int, share: Any = None
    ) -> None:
        """Add the gradients of a batch, or of a micro-batch, a `share` of it. full: how many images it usually has."""
        with self._autocast_context():
            outputs = run_network(self._forward if len(images) == full else self._model, images)
            loss = self._loss(outputs, targets)
        if self._distiller is not None and soft_targets is not None:
            loss = self._distiller.loss(outputs, soft_targets, loss)
        torch.autograd.backward(loss if share is None else loss * share, self._loss_gradient)
        self.loss_sum.add_(loss.detach(), alpha=self._weight(targets))

    def _build_optimizer(self, recipe: Recipe, task: Task) -> Any:
        return optimisers.build(self._parameters, recipe)

    def _bind_loss(self, task: Task, class_weights: Tensor | None) -> TrainingLoss:
        return training_loss(task, self._recipe, class_weights)

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's state, as `torch.optim.Optimizer.state_dict` returns it."""
        state: dict[str, Any] = self.optimizer.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.optimizer.load_state_dict(dict(state))
        if self._captured is not None:
            self._captured.forget()

    def _autocast_context(self) -> AbstractContextManager[object]:
        return nullcontext() if self._autocast is None else torch.autocast(self._device.type, self._autocast)

    def _mutated_tensors(self) -> Iterator[Tensor]:
        """The tensors that a step changes."""
        yield from (tensor.detach() for tensor in itertools.chain(self._model.parameters(), self._model.buffers()))
        for state in self.optimizer.state.values():
            yield from (value for value in state.values() if isinstance(value, Tensor))
        for term in self._terms:
            yield from term.mutated()
        if self.average is not None:
            yield from self.average.mutated()
        yield self.loss_sum

    def _seed_dropout(self) -> None:
        for generator in self._generators:
            generator.manual_seed(self._seed)
