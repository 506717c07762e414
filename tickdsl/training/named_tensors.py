"""Several inputs of a network by name, as one value: a batch of images with their descriptions, say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class NamedTensors:
    """Tensors [N, …] by name, used where a single tensor [N, …] could be: as far as data sets and trainings need it.

    `len` is N. Indexing by a name gives a tensor, by anything else some of the N samples; so `network(**inputs)` passes
    the tensors as keywords.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        if len({len(tensor) for tensor in tensors.values()}) != 1:
            raise ValueError(f"inputs of different lengths: { {name: len(each) for name, each in tensors.items()} }")
        self.tensors = dict(tensors)

    def keys(self) -> Iterator[str]:
        """The names of the inputs, in order."""
        return iter(self.tensors)

    def __getitem__(self, index: Any) -> Any:
        return self.tensors[index] if isinstance(index, str) else self.each(lambda tensor: tensor[index])

    def __len__(self) -> int:
        return len(self._first)

    def __repr__(self) -> str:
        known = (f"{name} {str(each.dtype)[6:]} {list(each.shape)}" for name, each in self.tensors.items())
        return f"<NamedTensors: {', '.join(known)}>"

    @property
    def _first(self) -> Tensor:
        return next(iter(self.tensors.values()))

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""
        return self._first.device

    @property
    def shape(self) -> torch.Size:
        """[N]: the only dimension that all inputs have in common."""
        return self._first.shape[:1]

    @property
    def nbytes(self) -> int:
        """The bytes that the tensors take."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def each(self, change: Callable[[Tensor], Tensor]) -> NamedTensors:
        """The inputs, each changed in the same way."""
        return NamedTensors({name: change(tensor) for name, tensor in self.tensors.items()})

    def replaced(self, name: str, tensor: Tensor) -> NamedTensors:
        """The inputs with another tensor in place of one of them."""
        return NamedTensors({**self.tensors, name: tensor})

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> NamedTensors:
        """The inputs on a device."""
        return self.each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> NamedTensors:
        """The inputs in pinned memory."""
        return self.each(Tensor.pin_memory)

    def index_select(self, dim: int, indices: Tensor) -> NamedTensors:
        """Some of the samples. dim: 0."""
        return self.each(lambda tensor: tensor.index_select(dim, indices))

    def tensor_split(self, parts: int) -> Sequence[NamedTensors]:
        """The samples in parts whose sizes differ by at most one."""
        split = {name: tensor.tensor_split(parts) for name, tensor in self.tensors.items()}
        return [NamedTensors({name: tensors[part] for name, tensors in split.items()}) for part in range(parts)]

    def contiguous(self) -> NamedTensors:
        """The inputs, each contiguous in memory."""
        return self.each(Tensor.contiguous)

    def double(self) -> NamedTensors:
        """The inputs with their floating-point tensors as float64."""
        return self.each(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)

    def clone(self) -> NamedTensors:
        """A copy of the inputs."""
        return self.each(Tensor.clone)

    def copy_(self, source: NamedTensors) -> NamedTensors:
        """Overwrite the tensors, in place."""
        for name, tensor in self.tensors.items():
            tensor.copy_(source.tensors[name])
        return self


def run_network(module: Any, inputs: Any) -> Any:
    """Run a network on inputs: a tensor, a tuple of positional arguments, or several by name, as keywords."""
    if isinstance(inputs, tuple):
        return module(*inputs)
    return module(**inputs) if isinstance(inputs, Mapping | NamedTensors) else module(inputs)


def tensors_of(inputs: Any) -> list[Tensor]:
    """The tensors of an input, or of several."""
    return list(inputs.tensors.values()) if isinstance(inputs, NamedTensors) else [inputs]


def zeros_like_batch(inputs: Any, count: int, device: torch.device) -> Any:
    """A batch of `count` samples of zeros, with the shapes and types of these inputs."""

    def zeros(tensor: Tensor) -> Tensor:
        return torch.zeros(count, *tensor.shape[1:], dtype=tensor.dtype, device=device)

    return inputs.each(zeros) if isinstance(inputs, NamedTensors) else zeros(inputs)


def joined_inputs(batches: Sequence[Any]) -> Any:
    """Batches of inputs as one: tensors, or tensors by name."""
    first = batches[0]
    if isinstance(first, NamedTensors | Mapping):
        return NamedTensors({name: torch.cat([batch[name] for batch in batches]) for name in first.keys()})  # noqa: SIM118
    return torch.cat(list(batches))
