"""The shapes of networks' inputs: (C, H, W) for images, (T, V) for T tokens out of a vocabulary of V."""

from __future__ import annotations

from tickdsl.plurals import plural

#: (C, H, W) of an image, float32; (T, V) for T tokens out of a vocabulary of V, int64 [T] in 0..V-1.
InputShape = tuple[int, ...]


def is_tokens(shape: InputShape) -> bool:
    """Whether inputs of this shape are tokens."""
    return len(shape) == 2


def shape_in_words(shape: InputShape, times: str = "×") -> str:
    """A shape for people: `3×32×32`, or `64 tokens of 256`."""
    if is_tokens(shape):
        return f"{plural(shape[0], 'token')} of {shape[1]}"
    return times.join(map(str, shape))
