"""Import torchvision also where its compiled operators are missing.

torchvision's wheel may be a CUDA build beside a CPU torch; its import then fails because the schemas of two
detection operators were never registered. Declaring them is enough for models, data sets and transforms.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from tickdsl.errors import TickdslError

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
#: Declarations live as long as the library object that made them.
_declared: list[Any] = []


def import_torchvision() -> ModuleType:
    """The torchvision package; TickdslError where it cannot be imported even with the schemas declared."""
    try:
        return importlib.import_module("torchvision")
    except ModuleNotFoundError as error:
        raise TickdslError("torchvision is not installed", "pip install torchvision") from error
    except RuntimeError as error:
        if "torchvision::nms" not in str(error) or _declared:
            raise _unusable(error) from error
    import torch

    library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS:
        library.define(schema)
    _declared.append(library)
    try:
        return importlib.import_module("torchvision")
    except (ImportError, RuntimeError) as error:
        raise _unusable(error) from error


def _unusable(error: Exception) -> TickdslError:
    return TickdslError(
        f"torchvision cannot be imported: {error}", "install the torchvision release that fits your torch"
    )
