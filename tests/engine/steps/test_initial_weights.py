"""Initial weights from a file: the file of the step's key, and a warning if it was pruned before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from tickdsl.engine.steps.initial_weights import verify_weights
from tickdsl.errors import TickdslError
from tickdsl.training import models
from tickdsl.training.data.file_digests import files_digest


def saved(path: Path, zeros: float) -> dict[str, Any]:
    """The `model` arguments of a step whose weights have this share of zeros."""
    state = models.create("small-cnn", classes=10, shape=(1, 8, 8), seed=5).state_dict()
    for tensor in state.values():
        if tensor.dim() > 1:
            tensor.flatten()[: round(zeros * tensor.numel())] = 0
    save_file(dict(state), path)
    return {"name": "small-cnn", "options": {"weights": str(path)}, "fingerprint": files_digest([path])}


def warnings_about(model: dict[str, Any]) -> list[str]:
    module = models.create("small-cnn", classes=10, shape=(1, 8, 8), seed=1, options=model["options"])
    found: list[str] = []
    verify_weights(model, module, found.append)
    return found


def test_weights_that_were_pruned_before_are_told_with_their_share(tmp_path: Path) -> None:
    assert warnings_about(saved(tmp_path / "dense.safetensors", 0)) == []
    (warning,) = warnings_about(saved(tmp_path / "sparse.safetensors", 0.75))
    assert "75.0% of the weights in" in warning and "sparse.safetensors are zero" in warning
    (warning,) = warnings_about(saved(tmp_path / "sparser.safetensors", 0.9996))
    assert "99.96% of the weights in" in warning


def test_another_file_than_when_the_plan_was_read_is_refused(tmp_path: Path) -> None:
    model = saved(tmp_path / "w.safetensors", 0)
    saved(tmp_path / "w.safetensors", 0.5)
    with pytest.raises(TickdslError, match="changed after the plan was read"):
        warnings_about(model)
