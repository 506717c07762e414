"""Several inputs by name, as arrays of a data set: in memory, or in files that are read while they are used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from tickdsl.errors import TickdslError
from tickdsl.plurals import plural
from tickdsl.training.catalogue.input_shapes import (
    FLAGS,
    IMAGE,
    INTEGERS,
    NUMBERS,
    NamedInput,
    NamedShapes,
)
from tickdsl.training.data.readers.image_arrays import as_channels_first
from tickdsl.training.data.readers.mapped_arrays import PART, MappedInputs
from tickdsl.training.data.readers.raw_dataset import RawDataset

#: The most dimensions of a named input, with that of the samples.
_MOST_DIMENSIONS = 4


@attrs.frozen(eq=False)
class NamedArrays:
    """Inputs [N, …] by name; indexing chooses some of the samples.

    shapes: of the inputs, in the order of `arrays`: images uint8 [N, C, H, W], numbers float32, integers of any integer
    type, and flags bool.
    """

    shapes: NamedShapes
    arrays: Mapping[str, NDArray[Any] | MappedInputs]

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any] | MappedInputs]) -> NamedArrays:
        """Inputs whose shapes are not known yet. Raises TickdslError if they have different numbers of samples."""
        (first, one), *others = ((name, len(array)) for name, array in arrays.items())
        for name, count in others:
            if count != one:
                raise TickdslError(
                    f"the input `{first}` has {plural(one, 'sample')}, and `{name}` has {count}", "store one per sample"
                )
        return cls(NamedShapes(()), arrays)

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """The bytes of each sample: those of its inputs, in order."""
        for first in range(0, len(self), PART):
            parts = self.read(slice(first, first + PART))
            for sample in zip(*parts.values(), strict=True):
                yield np.frombuffer(b"".join(np.ascontiguousarray(each).tobytes() for each in sample), np.uint8)

    def __getitem__(self, rows: Any) -> NamedArrays:
        """Some of the samples. rows: a slice, a mask or indices."""
        return attrs.evolve(self, arrays={name: array[rows] for name, array in self.arrays.items()})

    @property
    def shape(self) -> tuple[int]:
        """(N,): the only dimension that all inputs have in common."""
        return (len(self),)

    @property
    def is_mapped(self) -> bool:
        """Whether the arrays are read from files while they are used."""
        return any(isinstance(array, MappedInputs) for array in self.arrays.values())

    @property
    def nbytes(self) -> int:
        """The size that the inputs would have in memory."""
        return sum(int(array.nbytes) for array in self.arrays.values())

    def read(self, rows: Any = slice(None)) -> dict[str, NDArray[Any]]:
        """The values of some of the samples, by name."""
        return {
            name: array.read(rows) if isinstance(array, MappedInputs) else array[rows]
            for name, array in self.arrays.items()
        }

    def with_image(self, name: str, images: Any) -> NamedArrays:
        """The inputs with other images in place of one of them."""
        inputs = tuple(
            attrs.evolve(known, sizes=images.shape[1:]) if known.name == name else known for known in self.shapes.inputs
        )
        return NamedArrays(NamedShapes(inputs), {**self.arrays, name: images})


def as_named_input(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """An array as a data set holds it: images channels first, numbers as float32, whole numbers and flags as they are.

    Raises TickdslError if a network cannot take it.
    """
    if array.dtype != np.bool_ and not np.issubdtype(array.dtype, np.number):
        raise TickdslError(f"the input `{name}` is {array.dtype}", "store numbers: uint8, float32, int64 or bool")
    if np.issubdtype(array.dtype, np.complexfloating) or not 1 <= array.ndim <= _MOST_DIMENSIONS:
        raise TickdslError(
            f"the input `{name}` is {array.dtype} {list(array.shape)}", "store real numbers [N, …] of 1 to 4 dimensions"
        )
    kind = _kind(array)
    if kind == IMAGE or (kind == NUMBERS and array.ndim == _MOST_DIMENSIONS):
        array = as_channels_first(array)
    if kind == NUMBERS:
        array = array.astype(np.float32, copy=False)
        if not np.isfinite(array).all():
            where = np.argwhere(~np.isfinite(array))[0].tolist()
            raise TickdslError(f"the input `{name}` at {where} is not finite", "replace what is missing")
    elif kind == INTEGERS and array.size and array.min() < 0:
        raise TickdslError(f"the input `{name}` has the value {array.min()}", "count whole numbers from 0")
    return np.ascontiguousarray(array)


def _kind(array: NDArray[Any]) -> str:
    """What an array holds: 8 bits in three or four dimensions are images, all other integers whole numbers."""
    if array.dtype == np.bool_:
        return FLAGS
    if array.dtype == np.uint8 and array.ndim > 2:
        return IMAGE
    return NUMBERS if np.issubdtype(array.dtype, np.floating) else INTEGERS


def _highest(array: NDArray[Any] | MappedInputs) -> int:
    parts = array.parts() if isinstance(array, MappedInputs) else (array,)
    return max((int(part.max()) for part in parts if part.size), default=0)


def find_named(path: Path, arrays: Mapping[str, Any], names: Sequence[str], part: str) -> dict[str, Any] | None:
    """The arrays of the inputs `names` for `part`, `train` or `test`; None if there is no test input.

    They are called `NAME_train` or `train_NAME`, or for training just NAME. Raises TickdslError if some are missing, or
    if one is there twice.
    """
    found: dict[str, Any] = {}
    for name in names:
        candidates = [f"{name}_{part}", f"{part}_{name}", *([name] if part == "train" else [])]
        held = [each for each in candidates if each in arrays]
        if len(held) > 1:
            raise TickdslError(
                f"{path} has the input `{name}` twice, as {' and as '.join(held)}", "remove one of these arrays"
            )
        if held:
            found[name] = arrays[held[0]]
    missing = next((name for name in names if name not in found), None)
    if missing is not None and (found or part == "train"):
        wanted = f"{missing}, or {missing}_train and {missing}_test" if part == "train" else f"{missing}_test"
        kind = "test" if part == "test" else "training"
        raise TickdslError(
            f"{path} has no {kind} input `{missing}`: it holds {', '.join(sorted(arrays)[:8]) or 'nothing'}",
            f"store it as {wanted}, or remove it from `inputs=`",
        )
    return found or None


def require_alike(path: Path | str, train: NamedArrays, test: NamedArrays) -> None:
    """Raise TickdslError if training and test inputs differ in type or size."""
    for name, one in train.arrays.items():
        other = test.arrays[name]
        if one.shape[1:] != other.shape[1:] or one.dtype != other.dtype:
            ours, theirs = (f"{each.dtype} {list(each.shape[1:])}" for each in (one, other))
            raise TickdslError(
                f"{path}{': ' if path else ''}the training input `{name}` is {ours}, the test input {theirs}",
                "store both alike",
            )


def described(raw: RawDataset) -> RawDataset:
    """A data set of named arrays, with the shapes of its inputs."""
    train: Any = raw.train_inputs
    test: Any = raw.test_inputs
    shapes = NamedShapes(tuple(_describe(name, train.arrays[name], test.arrays[name]) for name in train.arrays))
    train, test = (attrs.evolve(part, shapes=shapes) for part in (train, test))
    return attrs.evolve(raw, train_inputs=train, test_inputs=test)


def _describe(name: str, *arrays: NDArray[Any] | MappedInputs) -> NamedInput:
    """The input of a name, by its arrays as `as_named_input` returns them."""
    first: Any = arrays[0]
    sample = first[:1].read() if isinstance(first, MappedInputs) else first
    kind = _kind(sample)
    values = 1 + max(map(_highest, arrays)) if kind == INTEGERS else 0
    return NamedInput(name, kind, sample.shape[1:], values)
