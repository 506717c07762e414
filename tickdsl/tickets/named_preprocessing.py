"""What several inputs of a network go through before they reach it, as in the training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from tickdsl.errors import TickdslError
from tickdsl.tickets.image_preprocessing import Preprocessing
from tickdsl.training.catalogue.input_shapes import (
    FLAGS,
    IMAGE,
    INTEGERS,
    NUMBERS,
    NamedInput,
    NamedShapes,
    shape_in_words,
)
from tickdsl.training.data.preprocess import Standardise, statistics_shape
from tickdsl.training.named_tensors import NamedTensors
from tickdsl.training.rng import generator

_CPU = torch.device("cpu")


@attrs.frozen
class ArrayPreprocessing:
    """One of several inputs that is no image: numbers, which are standardised, whole numbers, or flags.

    mean, std: of the training data, one number per channel; empty for whole numbers and flags.
    """

    known: NamedInput
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __call__(self, values: Any) -> Tensor:
        """Prepare values [N, …], or those of one sample, as the training did. Raises TickdslError for others."""
        try:
            found = values if isinstance(values, Tensor) else torch.from_numpy(np.asarray(values))
        except (TypeError, ValueError) as error:
            raise self._wrong(f"these are {type(values).__name__}") from error
        batch = found.unsqueeze(0) if found.dim() == len(self.known.sizes) else found
        fits = self.known.kind == NUMBERS or not found.is_floating_point()
        if not fits or tuple(batch.shape[1:]) != self.known.sizes:
            raise self._wrong(f"these are {str(found.dtype).removeprefix('torch.')} {list(found.shape)}")
        if self.known.kind == INTEGERS and batch.numel() and not 0 <= int(batch.min()) <= int(batch.max()) < self._end:
            raise self._wrong(f"these are from {int(batch.min())} to {int(batch.max())}")
        return self.normalize(self.file_input(batch))

    @property
    def _end(self) -> int:
        return self.known.values

    def normalize(self, values: Tensor) -> Tensor:
        """What the network takes, of values as files take them."""
        if self.known.kind != NUMBERS:
            return values
        return Standardise(torch.tensor(self.mean), torch.tensor(self.std), values.device, self._shape)(values)

    def file_input(self, stored: Tensor) -> Tensor:
        """What exported files take: float32, int64 or bool."""
        if self.known.kind == NUMBERS:
            return stored.float()
        return stored.bool() if self.known.kind == FLAGS else stored.long()

    def random(self, count: int) -> Tensor:
        """Random values as a data set stores them, the same each time; flags are set."""
        size, stream = (count, *self.known.sizes), generator(0, "verification")
        if self.known.kind == INTEGERS:
            return torch.randint(self.known.values, size, generator=stream)
        return self._of_levels(torch.randn(size, generator=stream))

    def fixed(self, count: int) -> Tensor:
        """Values that are the same everywhere, as a data set stores them; flags are set."""
        size = (count, *self.known.sizes)
        numbers = (torch.arange(int(np.prod(size))) * 2_654_435_761 >> 13).view(size)
        if self.known.kind == INTEGERS:
            return numbers % self.known.values
        return self._of_levels((numbers % 256).float() / 64 - 2)

    def _of_levels(self, levels: Tensor) -> Tensor:
        if self.known.kind == FLAGS:
            return torch.ones_like(levels, dtype=torch.bool)
        mean, std = (torch.tensor(values).view(self._shape) for values in (self.mean, self.std))
        return levels * std + mean

    @property
    def _shape(self) -> tuple[int, ...]:
        return statistics_shape(self.known)

    def _wrong(self, found: str) -> TickdslError:
        types = {NUMBERS: "float32", INTEGERS: "int64", FLAGS: "bool"}
        sizes = ", ".join(map(str, ("N", *self.known.sizes)))
        values = f" from 0 to {self._end - 1}" if self.known.kind == INTEGERS else ""
        return TickdslError(
            f"the network takes {self.known.kind} as `{self.known.name}`; {found}",
            f"pass {types[self.known.kind]} [{sizes}]{values}",
        )


@attrs.frozen
class NamedPreprocessing:
    """Several inputs by name, each prepared by itself.

    mean, std: of the training data, one number per channel of all inputs, in their order.
    """

    shape: NamedShapes
    mean: tuple[float, ...] = attrs.field(converter=tuple)
    std: tuple[float, ...] = attrs.field(converter=tuple)

    #: What the inputs are called together, and what one set of them is.
    input_name, unit = "inputs", "sample"

    @property
    def parts(self) -> dict[str, Preprocessing | ArrayPreprocessing]:
        """What each input goes through."""
        means, stds = self.shape.split(self.mean), self.shape.split(self.std)
        parts: dict[str, Preprocessing | ArrayPreprocessing] = {}
        for known in self.shape.inputs:
            mean, std = tuple(means[known.name]), tuple(stds[known.name])
            if known.kind == IMAGE:
                channels, height, width = known.sizes
                parts[known.name] = Preprocessing(channels, height, width, mean, std)
            else:
                parts[known.name] = ArrayPreprocessing(known, mean, std)
        return parts

    @property
    def in_words(self) -> str:
        """The inputs for people: `image 3×8×8 and meta 5`."""
        return shape_in_words(self.shape)

    def __call__(self, inputs: Mapping[str, Any] | NamedTensors) -> NamedTensors:
        """Prepare inputs as the training did, for `network(**inputs)`.

        inputs: by name, each as `Preprocessing` or `ArrayPreprocessing` takes it. Raises TickdslError for others.
        """
        if not isinstance(inputs, Mapping | NamedTensors):
            raise TickdslError(
                f"the network takes {', '.join(self.shape)} by name, not one {type(inputs).__name__}",
                f"pass a dictionary: {{{', '.join(f'{name!r}: …' for name in self.shape)}}}",
            )
        if {*inputs.keys()} != {*self.shape}:
            raise TickdslError(
                f"the network takes the inputs {', '.join(self.shape)}; these are {', '.join(inputs.keys()) or 'none'}",
                "pass each of them, and no others",
            )
        prepared = {name: part(inputs[name]) for name, part in self.parts.items()}
        lengths = {name: len(tensor) for name, tensor in prepared.items()}
        if len({*lengths.values()}) > 1:
            raise TickdslError(
                "the inputs have different numbers of samples: "
                + ", ".join(f"{name} {count}" for name, count in lengths.items()),
                "pass one of each for every sample",
            )
        return NamedTensors(prepared)

    def normalize(self, inputs: NamedTensors) -> NamedTensors:
        """What the network takes, of inputs as files take them: images are floats in 0 to 1."""
        return NamedTensors({name: part.normalize(inputs[name]) for name, part in self.parts.items()})

    def file_input(self, stored: NamedTensors) -> NamedTensors:
        """What exported files take, of inputs as a data set stores them."""
        return NamedTensors({name: part.file_input(stored[name]) for name, part in self.parts.items()})

    def random(self, count: int) -> NamedTensors:
        """Random inputs as a data set stores them, the same each time."""
        return NamedTensors({name: part.random(count) for name, part in self.parts.items()})

    def fixed(self, count: int) -> NamedTensors:
        """Inputs that are the same everywhere, as a data set stores them."""
        return NamedTensors({name: part.fixed(count) for name, part in self.parts.items()})

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {"kind": "named", "shape": attrs.asdict(self.shape), "mean": list(self.mean), "std": list(self.std)}

    def takes(self, shape: object) -> bool:
        """Whether inputs of a shape can be given: the same ones, of which whole numbers may have fewer values."""
        if not isinstance(shape, NamedShapes) or [*shape] != [*self.shape]:
            return False
        pairs = zip(self.shape.inputs, shape.inputs, strict=True)
        return all(
            (ours.kind, ours.sizes) == (theirs.kind, theirs.sizes) and theirs.values <= ours.values
            for ours, theirs in pairs
        )
