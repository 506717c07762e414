"""The shapes of networks' inputs: (C, H, W) for images, (T, V) for T tokens of V, or several inputs by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from tickdsl.plurals import plural

#: (C, H, W) of an image, float32; (T, V) for T tokens out of a vocabulary of V, int64 [T] in 0..V-1.
OneShape = tuple[int, ...]
#: What a named input holds: images uint8, as a network's float32 [N, C, H, W]; float32 numbers of any shape; whole
#: numbers from 0, int64; or booleans.
IMAGE, NUMBERS, INTEGERS, FLAGS = KINDS = ("image", "numbers", "integers", "flags")


def _sizes(sizes: Iterable[int]) -> OneShape:
    return tuple(map(int, sizes))


@attrs.frozen
class NamedInput:
    """One of several inputs, which a network takes by keyword.

    kind: one of KINDS. sizes: the shape of a sample, as the network takes it. values: of `integers`, one more than the
    highest.
    """

    name: str
    kind: str
    sizes: tuple[int, ...] = attrs.field(converter=_sizes)
    values: int = 0

    @property
    def shape(self) -> OneShape:
        """The sizes; of integers, and how many values there are: (T, V) of T tokens out of V."""
        return (*self.sizes, self.values) if self.kind == INTEGERS else self.sizes

    @property
    def channels(self) -> int:
        """How many means and deviations it is normalised by; 0 for integers and flags."""
        if self.kind not in (IMAGE, NUMBERS):
            return 0
        return self.sizes[self.channel_dim] if self.sizes else 1

    @property
    def channel_dim(self) -> int:
        """Which of `sizes` are its channels: the first of three, otherwise the last."""
        return 0 if len(self.sizes) == 3 else -1

    @property
    def in_words(self) -> str:
        """The input for people: `image 3×32×32`, or `input_ids 16 of 30`."""
        size = "×".join(map(str, self.sizes)) or "1"
        return f"{self.name} {size}" + (f" of {self.values}" if self.kind == INTEGERS else "")


@attrs.frozen
class NamedShapes(Mapping[str, OneShape]):
    """The shapes of several inputs by their names, in the order of `inputs`."""

    inputs: tuple[NamedInput, ...]

    def __getitem__(self, name: str) -> OneShape:
        return self.input(name).shape

    def __iter__(self) -> Iterator[str]:
        return (known.name for known in self.inputs)

    def __len__(self) -> int:
        return len(self.inputs)

    def input(self, name: str) -> NamedInput:
        """The input of a name. Raises KeyError if there is none."""
        for known in self.inputs:
            if known.name == name:
                return known
        raise KeyError(name)

    def split(self, values: Sequence[Any]) -> dict[str, Sequence[Any]]:
        """What is one sequence of a value for each channel of all inputs, in their order, by name."""
        parts, first = {}, 0
        for known in self.inputs:
            parts[known.name] = values[first : first + known.channels]
            first += known.channels
        return parts

    @property
    def augmented(self) -> str | None:
        """The name of the input that augmentations change: the only image, or of several the one called `image`."""
        images = [known.name for known in self.inputs if known.kind == IMAGE]
        return images[0] if len(images) == 1 else next((name for name in images if name == "image"), None)


#: The shape of the input, or of several by name.
InputShape = OneShape | NamedShapes


def is_tokens(shape: InputShape) -> bool:
    """Whether inputs of this shape are tokens."""
    return len(shape) == 2 and not isinstance(shape, NamedShapes)


def one_shape(shape: InputShape) -> OneShape:
    """The shape of a single input; for code that several inputs do not reach."""
    if isinstance(shape, NamedShapes):
        raise TypeError(f"one input is needed, not {', '.join(shape)}")
    return shape


def shape_in_words(shape: InputShape, times: str = "×") -> str:
    """A shape for people: `3×32×32`, `64 tokens of 256`, or `image 3×32×32 and meta 5`."""
    if isinstance(shape, NamedShapes):
        *first, last = (known.in_words for known in shape.inputs)
        return f"{', '.join(first)} and {last}" if first else last
    if is_tokens(shape):
        return f"{plural(shape[0], 'token')} of {shape[1]}"
    return times.join(map(str, shape))


def inputs_in_words(shape: InputShape) -> str:
    """Inputs for people: `images of 3x32x32`, `64 tokens of 256`, or `inputs image 3×32×32 and meta 5`."""
    if isinstance(shape, NamedShapes):
        return f"inputs {shape_in_words(shape)}"
    return shape_in_words(shape) if is_tokens(shape) else f"images of {shape_in_words(shape, 'x')}"


def shape_as_json(shape: InputShape) -> Any:
    """A shape as JSON: a list of sizes, or an object for several inputs."""
    return attrs.asdict(shape) if isinstance(shape, NamedShapes) else list(shape)


def shape_from_json(found: Any) -> InputShape:
    """The inverse of `shape_as_json`; shapes stay as they are. Raises TypeError or ValueError for others."""
    if isinstance(found, NamedShapes):
        return found
    if isinstance(found, Mapping):
        return NamedShapes(tuple(NamedInput(**each) for each in found["inputs"]))
    return tuple(found)


def no_augmented_image(shapes: NamedShapes) -> tuple[str, str]:
    """What is wrong with `augment=` for inputs of which none is the image to change, and what to do."""
    images = [known.name for known in shapes.inputs if known.kind == IMAGE]
    if not images:
        return f"`augment=` changes images, and the inputs {', '.join(shapes)} are none", "remove `augment=`"
    return (
        f"`augment=` changes one image, and there are {len(images)}: {', '.join(images)}",
        "call the one that it is for `image`, or remove `augment=`",
    )
