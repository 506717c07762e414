"""Trainings and whole plans on a fake second device, as a stand-in for a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def run_cases(name: str, expression: str, folder: Path) -> None:
    """Run cases in a separate process, since torch cannot unregister a device."""
    options = ["-p", "no:cacheprovider", "--basetemp", folder / "inner"]
    command = [sys.executable, "-m", "pytest", HERE / name, "-k", expression, *options]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    completed = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=env, cwd=folder)
    assert completed.returncode == 0, completed.stdout + completed.stderr


@pytest.mark.slow
@pytest.mark.parametrize("expression", ["not plan", "plan"])
def test_on_a_second_device(expression: str, tmp_path: Path) -> None:
    run_cases("second_device_cases.py", expression, tmp_path)


@pytest.mark.slow
def test_shared_trainings_on_a_second_device(tmp_path: Path) -> None:
    run_cases("shared_training_cases.py", "shared", tmp_path)
