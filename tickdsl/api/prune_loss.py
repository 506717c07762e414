"""The loss of `tickdsl.prune`: of a task, or of the user's own, with one message for what does not work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from tickdsl.errors import TickdslError
from tickdsl.plugins import PluginError, is_quoted_target
from tickdsl.training.catalogue.input_shapes import FLAGS, INTEGERS, NUMBERS, InputShape, NamedInput, NamedShapes
from tickdsl.training.tasks import TASKS, Task, find_task

#: The mean loss of the outputs and the targets of a batch.
OwnLoss = Callable[[Any, Any], Tensor]
_WAYS_OUT = "pass `task=` with the name of a task, or `loss=` with a function of these outputs and targets"


@attrs.frozen
class PruneLoss:
    """The loss of criteria that need gradients. logits: whether the outputs are logits, which a temperature divides."""

    function: OwnLoss
    logits: bool

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        """The mean loss, a scalar. Raises TickdslError if it fails, or is no finite number."""
        try:
            loss = self.function(outputs, targets)
        except torch.OutOfMemoryError:
            raise
        except TickdslError:
            raise
        except Exception as error:  # the user's own code may raise anything
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise TickdslError(
                f"the loss fails for outputs {_described(outputs)} and targets {_described(targets)}: {reason}",
                _WAYS_OUT,
            ) from error
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise TickdslError(f"the loss is {_described(loss)}, not a single number", "return the mean over the batch")
        if not bool(torch.isfinite(loss.detach()).all()):
            raise TickdslError(
                f"the loss is {loss.detach().item():g}, so no gradient of it ranks anything",
                "check the weights of the network, and the inputs and targets of the loader",
            )
        return loss


def read_loss(loss: OwnLoss | None, task: str | Task | None) -> PruneLoss:
    """The loss that is meant: of a task, by its name or itself, or the user's own; by default cross-entropy.

    Raises TickdslError if both are given, or there is no such task.
    """
    if loss is not None and task is not None:
        raise TickdslError("`loss` and `task` are both given", "leave out one of them: a task has its loss")
    if loss is not None:
        if not callable(loss):
            raise TickdslError(
                f"`loss` cannot be of type {type(loss).__name__}", "pass a function of outputs and targets"
            )
        return PruneLoss(loss, logits=isinstance(loss, nn.CrossEntropyLoss) or loss is nn.functional.cross_entropy)
    found = _find(task if task is not None else "classify")
    return PruneLoss(found.bind(), logits=found.has_classes)


def _find(task: str | Task) -> Task:
    if isinstance(task, Task):
        return task
    if not isinstance(task, str):
        raise TickdslError(
            f"`task` cannot be of type {type(task).__name__}",
            f"pass one of {', '.join(TASKS)}, or a tickdsl.extending.Task",
        )
    try:
        return find_task(task)
    except PluginError:
        raise
    except TickdslError as error:
        if is_quoted_target(task):
            raise
        raise TickdslError(
            f"there is no task `{task}`", f"pass one of {', '.join(TASKS)}, or a tickdsl.extending.Task"
        ) from error


def input_shape(network: nn.Module, example: object) -> InputShape:
    """The shape of an input: (C, H, W) or the like, or (T, V) for T tokens that the network embeds; () if unknown.

    Of tensors by name, the shapes of all of them.
    """
    embeddings = [layer.num_embeddings for layer in network.modules() if isinstance(layer, nn.Embedding)]
    if isinstance(example, Mapping):
        tensors = {name: each for name, each in example.items() if isinstance(each, Tensor)}
        return NamedShapes(tuple(_named_input(name, each, embeddings) for name, each in tensors.items()))
    if not isinstance(example, Tensor):
        return ()
    if example.is_floating_point() or example.dim() != 2:
        return tuple(map(int, example.shape[1:]))
    return (int(example.shape[1]), embeddings[0]) if embeddings else tuple(map(int, example.shape[1:]))


def _named_input(name: str, example: Tensor, embeddings: list[int]) -> NamedInput:
    kind = NUMBERS if example.is_floating_point() else FLAGS if example.dtype == torch.bool else INTEGERS
    highest = int(example.max()) + 1 if kind == INTEGERS and example.numel() and not example.is_meta else 2
    return NamedInput(name, kind, example.shape[1:], max([highest, *embeddings[:1]]) if kind == INTEGERS else 0)


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_described, value))})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_described(item)}' for key, item in value.items())}}}"
    return f"of type {type(value).__name__}"
