"""What goes wrong in a step is told with its path, its cause and a way out."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tickdsl.engine.messages import Task
from tickdsl.engine.steps.result_files import load_weights, save_weights
from tickdsl.engine.steps.settings import Settings
from tickdsl.engine.workers.worker import Worker
from tickdsl.errors import is_out_of_memory
from tickdsl.plan.steps import Step


@pytest.fixture
def failed_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], Any]:
    """The outcome of a step that calls a function."""
    settings = Settings(
        store=tmp_path, data=tmp_path, device="cpu", threads=1, jobs=1, checkpoint_seconds=1, stack=None,
        allow_code=False,
    )  # fmt: skip

    def run(call: Callable[[], object]) -> Any:
        monkeypatch.setattr("tickdsl.engine.workers.worker.run_step", lambda *arguments: call())
        (outcome,) = Worker(settings, lambda message: None).run_tasks([Task(Step("init", {}, {}, 1), {})])
        assert outcome.status == "failed"
        return outcome

    return run


def test_memory(failed_with: Any) -> None:
    outcome = failed_with(lambda: torch.empty(1 << 50, dtype=torch.uint8))
    assert outcome.error.startswith("out of memory: ") and "batch" in outcome.hint and outcome.trace is None
    assert is_out_of_memory(MemoryError()) and not is_out_of_memory(RuntimeError("shapes do not match"))


def test_a_file_that_cannot_be_read(failed_with: Any, tmp_path: Path) -> None:
    def read() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(tmp_path / "images.bin"))

    outcome = failed_with(read)
    assert outcome.error == f"cannot read {tmp_path / 'images.bin'}: Input/output error"
    assert "network" in outcome.hint and "Traceback" in outcome.trace


def test_weights_that_do_not_fit_are_an_error_of_the_disk(failed_with: Any, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError) as caught:
            save_weights(tmp_path, {"weight": torch.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(tmp_path / "weights.safetensors"))
    (tmp_path / "weights.safetensors").write_bytes(b"no weights")
    outcome = failed_with(lambda: load_weights(tmp_path))
    assert "weights.safetensors" in outcome.error and outcome.hint
