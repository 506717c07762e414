"""The files of a result, and the record of the step that made it."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tickdsl import __version__
from tickdsl.engine.steps.settings import Settings
from tickdsl.plan.steps import Step
from tickdsl.records.process import host_name

WEIGHTS, STRUCTURE = "weights.safetensors", "structure.safetensors"


def save_weights(folder: Path, state: Mapping[str, Tensor]) -> None:
    """Save a state dict as safetensors, on the CPU and contiguous."""
    plain = {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in state.items()}
    save_file(plain, folder / WEIGHTS)


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
