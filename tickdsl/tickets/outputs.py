"""What a network returns: one tensor, or a tuple or a dictionary of tensors; and what its test outputs say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from tickdsl.training.tasks import Outputs, Task

#: Task -> what its outputs mean, if they are one tensor.
_MEANINGS = {
    "classify": "the logits of the classes",
    "tag": "the logits of the labels: positive for those that apply",
    "regress": "the numbers, in the unit of the data",
    "segment": "the logits of the classes, for every pixel",
    "language": "the logits of the next token, at every place",
    "reconstruct": "the image that is reconstructed",
    "generate": "the image that is generated",
}
#: Test outputs are judged in batches of this many.
_BATCH = 1000
#: The outputs for the probe that a ticket keeps, at most, for each of its inputs.
_MAX_PROBE = 4096


@attrs.frozen
class OutputInfo:
    """A tensor that a network returns: its name in exported files, its shape without the batch, and its meaning."""

    name: str
    shape: tuple[int, ...]
    meaning: str

    @property
    def in_words(self) -> str:
        """The name and the shape: `logits [N, 10]`."""
        return f"`{self.name}` [{', '.join(['N', *map(str, self.shape)])}]"


def leaves(outputs: Outputs) -> tuple[Tensor, ...]:
    """The tensors [B, …] of a network's outputs, in order, without numbers that are none of the batch's."""
    return tuple(leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor) and leaf.dim())


def joined(parts: Sequence[Outputs]) -> Outputs:
    """The outputs of several batches as those of one, float32 on the CPU."""

    def join(*tensors: Tensor) -> Tensor:
        return torch.cat([tensor.float().cpu() for tensor in tensors]) if tensors[0].dim() else tensors[0].float().cpu()

    return pytree.tree_map(join, *parts)


def like(outputs: Outputs, tensors: Sequence[Tensor]) -> Outputs:
    """Tensors in the form of other outputs: the inverse of `leaves`."""
    given = iter(tensors)
    return pytree.tree_map(lambda leaf: next(given) if isinstance(leaf, Tensor) and leaf.dim() else leaf, outputs)


def describe_outputs(outputs: Outputs, task: Task) -> tuple[OutputInfo, ...]:
    """The tensors of a network's outputs [B, …], with the names of their places, and what they mean in the task."""
    named = [(name, tensor) for name, tensor in named_tensors(outputs) if tensor.dim()]
    default = "logits" if task.has_classes or task.name in ("tag", "segment", "language") else "outputs"
    meaning = _MEANINGS.get(task.name, f"outputs of the task {task.name}")
    if task.name not in _MEANINGS and task.has_classes:
        meaning = _MEANINGS["classify"]
    return tuple(
        OutputInfo(
            name or default,
            tuple(map(int, tensor.shape[1:])),
            meaning if index == 0 else f"part {index + 1} of the outputs",
        )
        for index, (name, tensor) in enumerate(named)
    )


def named_tensors(outputs: Outputs) -> Iterator[tuple[str, Tensor]]:
    """The tensors with names: keys of a dictionary, fields of a named tuple, or numbers; empty for a single tensor."""
    if isinstance(outputs, Tensor):
        yield "", outputs
        return
    if isinstance(outputs, Mapping):
        items: list[tuple[str, Any]] = [(str(key), value) for key, value in outputs.items()]
    else:
        fields = getattr(outputs, "_fields", None)
        items = [(fields[i] if fields else f"output{i + 1}", value) for i, value in enumerate(outputs)]
    for name, value in items:
        for inner, tensor in named_tensors(value) if not isinstance(value, Tensor) else [("", value)]:
            yield (f"{name}_{inner}" if inner else name), tensor


def test_figures(task: Task, outputs: Outputs, targets: Tensor) -> dict[str, float]:
    """The figures of a test by name, for all its outputs [N, …], float32, and targets [N, …]."""
    size = len(targets) if task.keeps_outputs else _BATCH
    total = torch.zeros(())
    for first in range(0, len(targets), size):
        part = pytree.tree_map(
            lambda tensor, first=first: tensor[first : first + size] if tensor.dim() else tensor, outputs
        )
        total = total + task.sums(part, targets[first : first + size])
    return dict(task.figures(total.tolist(), len(targets)))


def probe_of(outputs: Outputs) -> Tensor:
    """Outputs by which a network is recognised, float32 [2, K]: all of them, or evenly chosen ones if they are many."""
    flat = torch.cat([tensor.float().reshape(len(tensor), -1) for tensor in leaves(outputs)], 1)
    step = -(-flat.shape[1] // _MAX_PROBE)
    return flat[:, ::step] if step > 1 and not _is_vector(outputs) else flat


def _is_vector(outputs: Outputs) -> bool:
    return isinstance(outputs, Tensor) and outputs.dim() == 2
