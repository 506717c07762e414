"""The loss of a training: that of its task, a built-in one, or one of one's own, with the weights of the classes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from tickdsl.errors import TickdslError
from tickdsl.plugins import Call, Plugin, PluginError, call_plugin, load_plugin, require_plugin, type_in_words
from tickdsl.plurals import plural
from tickdsl.training.recipes.losses import DEFAULT_LOSSES, builtin_loss
from tickdsl.training.recipes.recipe import BALANCED, Recipe
from tickdsl.training.tasks import TASKS, UNLABELLED, Loss, Task
from tickdsl.training.tasks.losses import BUILTIN_LOSSES, counted_weight


@attrs.frozen
class TrainingLoss:
    """The mean loss of a batch, and the number of terms that it averages, which micro-batches are weighted by."""

    mean: Loss
    counted: Callable[[Tensor], Any]


def training_loss(task: Task, recipe: Recipe, weights: Tensor | None, *, stacked: bool = False) -> TrainingLoss:
    """The loss of a recipe. weights: those of the classes or labels, [classes]; None: all alike.

    stacked: that of K networks, with outputs and targets [B, K, …]. Raises TickdslError if the recipe does not fit
    the task, PluginError if a loss of one's own cannot be loaded.
    """
    if recipe.loss is None and weights is None:
        bind = task.bind_stacked if stacked else task.bind
        return TrainingLoss(bind(label_smoothing=recipe.label_smoothing), task.counted)
    mean = _mean_loss(task, recipe, weights)
    counted = task.counted
    if weights is not None:
        counted = partial(counted_weight, _alike(task)[0], weight=weights)
    return TrainingLoss(_of_each(mean) if stacked else mean, counted)


def _of_each(mean: Loss) -> Loss:
    def losses(outputs: Tensor, targets: Tensor) -> Tensor:
        return torch.stack([mean(*one) for one in zip(outputs.unbind(1), targets.unbind(1), strict=True)])

    return losses


def _mean_loss(task: Task, recipe: Recipe, weights: Tensor | None) -> Loss:
    if task.phases:
        raise _unfit(recipe, f"the task `{task.name}` trains parts of a network in turn, by losses of its own")
    alike = _alike(task)
    if recipe.loss is not None and builtin_loss(recipe.loss) is None:
        return own_loss(recipe.loss)
    call = Call.parse(recipe.loss or DEFAULT_LOSSES.get(alike[0], "") or "none")
    if call.name == "cross-entropy" and weights is None and task.name == "language":
        return task.bind(label_smoothing=recipe.label_smoothing)
    for name in alike:
        build = BUILTIN_LOSSES.get(name, {}).get(call.name)
        if build is not None:
            smoothing = {"label_smoothing": recipe.label_smoothing} if recipe.label_smoothing else {}
            return build(weights, **call.options, **smoothing)
    raise _unfit(recipe, f"the task `{task.name}` has no such loss")


def _alike(task: Task) -> list[str]:
    """The built-in tasks whose outputs a task has the form of, its own name first."""
    return [name for name, known in TASKS.items() if isinstance(task, type(known))] or [task.name]


def _unfit(recipe: Recipe, reason: str) -> TickdslError:
    option = "class-weights=" if recipe.loss is None else f"loss={recipe.loss}"
    return TickdslError(f"{option}: {reason}", f"leave out `{option.partition('=')[0]}=`")


# -- class weights


def class_weights(task: Task, recipe: Recipe, targets: Tensor, classes: int) -> Tensor | None:
    """The weights of the classes or labels by a recipe, float32 [classes]; None: all alike.

    `balanced`: of classes, n / (k x n of the class), where k classes occur, so that their mean over the n samples (or
    labelled pixels) is 1; of labels, samples without the label / samples with it. Raises TickdslError if the number of
    weights differs from that of the classes, or if the task has none.
    """
    if not recipe.class_weights:
        return None
    kind = next((name for name in _alike(task) if name in ("classify", "segment", "tag")), None)
    if kind is None:
        raise TickdslError(
            f"class-weights=: the task `{task.name}` has no classes or labels", "leave out `class-weights=`"
        )
    if recipe.class_weights != BALANCED:
        if len(recipe.class_weights) != classes:
            raise TickdslError(
                f"class-weights= has {plural(len(recipe.class_weights), 'weight')}, but the data has "
                f"{plural(classes, 'label' if kind == 'tag' else 'class')}",
                "give one weight for each, in their order, or write `class-weights=balanced`",
            )
        return torch.tensor(recipe.class_weights, device=targets.device)
    if kind == "tag":
        found = targets.double().sum(0)
        weights = torch.where(found > 0, (len(targets) - found) / found.clamp(min=1), torch.ones_like(found))
        return weights.clamp(min=1e-6).float()
    counts = _class_counts(targets, classes).double()
    weights = counts.sum() / ((counts > 0).sum() * counts.clamp(min=1))
    return torch.where(counts > 0, weights, torch.ones_like(weights)).float()


def _class_counts(targets: Tensor, classes: int) -> Tensor:
    """How often each class occurs in the targets, int64 [classes]."""
    flat = targets.flatten()
    if targets.dim() > 1:
        flat = flat[flat != UNLABELLED]
    return flat.long().bincount(minlength=classes)


# -- losses of one's own


def own_loss(text: str) -> Loss:
    """A plug-in's loss: a class is called with the options first, a function with the batch.

    Raises PluginError if it cannot be used.
    """
    call = Call.parse(text)
    plugin = require_plugin("loss", call.name)
    target = load_plugin(plugin)
    if not callable(target):
        raise PluginError(f"`{text}` is {type_in_words(target)}, not a loss", "name a function of outputs and targets")
    made = call_plugin(plugin, target, **call.options) if isinstance(target, type) else partial(target, **call.options)
    if not callable(made):
        raise PluginError(
            f"`{text}` makes {type_in_words(made)}, not a loss", "return a function of outputs and targets"
        )
    if isinstance(made, nn.Module) and any(parameter.requires_grad for parameter in made.parameters()):
        raise PluginError(f"the loss `{text}` has weights of its own, which nothing trains", "make them buffers")
    return _OwnLoss(plugin, made)


class _OwnLoss:
    """Calls a loss of one's own, and says what is wrong with what it returns."""

    def __init__(self, plugin: Plugin, loss: Callable[..., Any]) -> None:
        self._plugin, self._loss = plugin, loss
        self._moved = not isinstance(loss, nn.Module)

    def __call__(self, outputs: Any, targets: Tensor) -> Tensor:
        if not self._moved:
            self._loss.to(targets.device)  # type: ignore[attr-defined]
            self._moved = True
        value = call_plugin(self._plugin, self._loss, outputs, targets)
        if not isinstance(value, Tensor) or value.numel() != 1:
            found = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else type_in_words(value)
            raise PluginError(
                f"the loss `{self._plugin.name}` returns {found}", "return the mean of the batch, a scalar"
            )
        if torch.is_grad_enabled() and not value.requires_grad:
            raise PluginError(
                f"the loss `{self._plugin.name}` does not depend on the outputs", "compute it from them, with gradients"
            )
        return value.reshape(())
