"""Initial weights from a file, verified to be those in the step's key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from tickdsl.errors import TickdslError
from tickdsl.percentages import percent
from tickdsl.training.data.file_digests import files_digest

#: The share of zeros from which weights count as pruned; in dense ones a weight that is exactly 0 is rare.
_SPARSE_SHARE = 0.01


def verify_weights(model: Mapping[str, Any], module: nn.Module, warn: Callable[[str], None]) -> None:
    """Verify the file that a network's weights were just read from.

    Warns if many weights are zero. Raises TickdslError if the file is another one than when the plan was read.
    """
    path = verify_digest(model)
    weights = [parameter for parameter in module.parameters() if parameter.dim() > 1]
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    share = zeros / max(1, sum(weight.numel() for weight in weights))
    if share >= _SPARSE_SHARE:
        warn(
            f"{percent(share)} of the weights in {path} are zero: they were pruned before. Amounts and sparsity count "
            "them as weights that are there, and a prune by size removes them first"
        )


def verify_digest(model: Mapping[str, Any]) -> Path:
    """The file with a network's weights. Raises TickdslError if it is another one than when the plan was read."""
    path = Path(model["options"]["weights"])
    if files_digest([path]) != model["fingerprint"]:
        raise TickdslError(
            f"the weights file {path} changed after the plan was read",
            "run the plan again: it computes anew what depends on it",
        )
    return path
