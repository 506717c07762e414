"""Trainings and whole plans on a fake second device, as a stand-in for a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

INNER = Path(__file__).with_name("second_device_cases.py")


@pytest.mark.slow
@pytest.mark.parametrize("expression", ["not plan", "plan"])
def test_on_a_second_device(expression: str, tmp_path: Path) -> None:
    """Run the cases in a separate process, since torch cannot unregister a device."""
    options = ["-p", "no:cacheprovider", "--basetemp", tmp_path / "inner"]
    command = [sys.executable, "-m", "pytest", INNER, "-k", expression, *options]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    completed = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=env, cwd=tmp_path)
    assert completed.returncode == 0, completed.stdout + completed.stderr
