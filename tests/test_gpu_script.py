"""`benchmarks/gpu.py` without a GPU: every part runs at a tiny size, and it stops by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"
PARTS = ("correctness", "floor", "stacks", "training_loop", "deterministic", "processes", "study")


def run_script(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1300)


@pytest.mark.slow
def test_every_part_runs_at_a_tiny_size() -> None:
    completed = run_script("--tiny", "--device", "cpu", "--minutes", "20")
    summary = completed.stdout.rpartition("\n\n")[2].splitlines()
    assert [(line.split()[0], line.split()[1]) for line in summary] == [(part, "ok,") for part in PARTS], (
        completed.stdout + completed.stderr
    )
    assert completed.returncode == 0
    assert "same bits twice: True" in completed.stdout


@pytest.mark.slow
def test_parts_that_do_not_fit_are_left_out() -> None:
    completed = run_script("--tiny", "--device", "cpu", "--minutes", "0.1")
    assert completed.stdout.count("no time left") == len(PARTS), completed.stdout + completed.stderr


@pytest.mark.slow
def test_without_a_gpu_it_says_so() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    completed = run_script()
    assert completed.returncode == 2
    assert "torch sees no GPU" in completed.stderr
