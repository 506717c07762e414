"""What a network's inputs go through before they reach it, as in the training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tickdsl.tickets.float_preprocessing import FloatPreprocessing
from tickdsl.tickets.image_preprocessing import Preprocessing
from tickdsl.tickets.named_preprocessing import NamedPreprocessing
from tickdsl.tickets.token_preprocessing import TokenPreprocessing
from tickdsl.training.catalogue.input_shapes import InputShape, NamedShapes, is_tokens, shape_from_json

if TYPE_CHECKING:
    from tickdsl.training.data.datasets import Dataset

__all__ = ["InputPreprocessing", "Preprocessing", "preprocessing_for", "preprocessing_from_json", "preprocessing_of"]

#: What the inputs of a network go through.
InputPreprocessing = Preprocessing | FloatPreprocessing | TokenPreprocessing | NamedPreprocessing


def preprocessing_of(data: Dataset) -> InputPreprocessing:
    """What a network that is trained on `data` needs."""
    return preprocessing_for(data.shape, data.mean.tolist(), data.std.tolist(), floats=data.has_floats)


def preprocessing_for(shape: InputShape, mean: Any, std: Any, *, floats: bool = False) -> InputPreprocessing:
    """What inputs of a shape, (C, H, W) or (T, V), go through. mean, std: by channel; unused for tokens.

    Of several inputs, mean and std are those of one after the other. floats: whether they are numbers instead of images
    of 8 bits.
    """
    if isinstance(shape, NamedShapes):
        return NamedPreprocessing(shape, mean, std)
    if is_tokens(shape):
        return TokenPreprocessing(*shape)
    channels, height, width = shape
    kind = FloatPreprocessing if floats else Preprocessing
    return kind(channels, height, width, mean, std)


def preprocessing_from_json(fields: Mapping[str, Any]) -> InputPreprocessing:
    """The inverse of `as_json`. Raises TypeError or ValueError if the fields are others."""
    given = dict(fields)
    kind = given.pop("kind", "images")
    if kind == "named":
        shape = shape_from_json(given["shape"])
        if not isinstance(shape, NamedShapes):
            raise ValueError(f"{given['shape']} names no inputs")
        return NamedPreprocessing(shape, given["mean"], given["std"])
    if kind == "tokens":
        return TokenPreprocessing(**given)
    return (FloatPreprocessing if kind == "numbers" else Preprocessing)(**given)
