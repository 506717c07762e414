"""Where the network of a ticket comes from: the catalogue, a plug-in, or a factory of the user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from tickdsl.training.catalogue.input_shapes import InputShape, NamedShapes, shape_from_json


def _shape(found: Any) -> InputShape:
    shape = shape_from_json(found)
    if not isinstance(shape, NamedShapes) and len(shape) not in (2, 3):
        raise ValueError(f"{shape} is not the shape of an input")
    return shape


@attrs.frozen
class NetworkSource:
    """A network by its name in plans, with its options, built for `classes` outputs and inputs of `shape`.

    shape: (C, H, W) for images, (T, V) for T tokens of V, or those of several inputs by name.

    name: a name of the catalogue, that of an installed plug-in, or `package.module:factory`. code: what identifies the
    code of a plug-in or a factory when the ticket was written; empty for networks of the catalogue.
    """

    name: str
    options: Mapping[str, Any]
    classes: int
    shape: InputShape = attrs.field(converter=_shape)
    code: str = ""

    @property
    def is_own(self) -> bool:
        """Whether the network is the user's or a plug-in's, so that its code is not part of tickdsl."""
        return bool(self.code)

    @property
    def title(self) -> str:
        """The name with its options, as in a plan."""
        return " ".join([self.name, *(f"{key}={value}" for key, value in self.options.items())])
