"""The files of a result, and the record of the step that made it."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tickdsl import __version__
from tickdsl.engine.steps.settings import Settings
from tickdsl.graph.structure import STRUCTURE_FILE
from tickdsl.plan.steps import Step
from tickdsl.records.process import host_name
from tickdsl.training.catalogue.input_shapes import shape_as_json
from tickdsl.training.data.datasets import Dataset

WEIGHTS, STRUCTURE = "weights.safetensors", STRUCTURE_FILE
#: What a network that was tested needs to know of its data.
DATA = "data.json"


def save_weights(folder: Path, state: Mapping[str, Tensor]) -> None:
    """Save a state dict as safetensors, on the CPU and contiguous. Raises OSError if the file cannot be written."""
    plain = {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in state.items()}
    try:
        save_file(plain, folder / WEIGHTS)
    except SafetensorError as error:
        raise _as_os_error(error, folder / WEIGHTS) from error


def load_weights(folder: Path) -> dict[str, Tensor]:
    """The state dict that `save_weights` has saved. Raises OSError if it cannot be read."""
    try:
        state: dict[str, Tensor] = load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise _as_os_error(error, folder / WEIGHTS) from error
    return state


def save_data_description(folder: Path, data: Dataset) -> None:
    """Save how the images of a data set are normalised, and its classes: a network cannot be used without them."""
    description = {
        "shape": shape_as_json(data.shape),
        "mean": data.mean.tolist(),
        "std": data.std.tolist(),
        "classes": list(data.class_names),
        **({"inputs": "float32"} if data.has_floats else {}),
    }
    (folder / DATA).write_text(json.dumps(description))


def load_data_description(folder: Path) -> dict[str, Any] | None:
    """What `save_data_description` has saved; None for a result of an earlier version."""
    try:
        description: dict[str, Any] = json.loads((folder / DATA).read_text())
    except FileNotFoundError:
        return None
    return description


def _as_os_error(error: SafetensorError, path: Path) -> OSError:
    """The error of the operating system that safetensors reports in words."""
    number = re.search(r"(?:os error|code:) (\d+)", str(error))
    code = int(number[1]) if number else errno.EIO
    return OSError(code, os.strerror(code) if number else str(error), str(path))


def result_record(step: Step, metrics: Mapping[str, Any], seconds: float, settings: Settings) -> dict[str, Any]:
    """The record of a step that took `seconds`, for result.json."""
    return {
        "operation": step.operation,
        "parts": step.parts,
        "metrics": metrics,
        "seconds": round(seconds, 3),
        "made": {
            "tickdsl": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "host": host_name(),
            "device": str(torch.device(settings.device)),
            "threads": settings.threads,
            **({"deterministic": True} if settings.deterministic else {}),
        },
    }
