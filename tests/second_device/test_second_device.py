"""Trainings and whole plans on a second device made of the CPU, as a stand-in for a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

INNER = Path(__file__).with_name("second_device_cases.py")


@pytest.mark.parametrize("which", ["not plan", pytest.param("plan", marks=pytest.mark.slow)])
def test_on_a_second_device(which: str, tmp_path: Path) -> None:
    """In a process of its own: torch cannot take back a device."""
    apart = ["-p", "no:cacheprovider", "--basetemp", tmp_path / "inner"]
    command = [sys.executable, "-m", "pytest", INNER, "-k", which, *apart]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=env, cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
