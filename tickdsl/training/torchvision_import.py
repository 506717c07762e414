"""Import torchvision even if its compiled operators are missing.

With a CPU build of torch and a CUDA build of torchvision, importing torchvision fails because two detection operators
are not registered. Declaring their schemas is enough for models, data sets and transforms.
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
#: Keeps the library object alive, since the schemas disappear with it.
_declared: list[Any] = []


def import_torchvision() -> ModuleType:
    """Import and return torchvision. Raises TickdslError if it cannot be imported even with the schemas declared."""
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
        f"torchvision cannot be imported: {error}", "install the torchvision release that matches your torch"
    )
