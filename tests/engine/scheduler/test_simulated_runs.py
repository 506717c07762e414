"""Whatever happens to runs on one store, each measures in the end what it would have measured undisturbed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from simulated_runs import simulate
from test_step_scheduler import make_study

from tickdsl.plan.study import Study

PLANS = (
    "prune filters 20% x 2; rewind weights to 1ep\ncompare random-init\n",
    "seeds 2\nprune weights 20% x 3; rewind weights\ncompare random-init, random-structure\nstop when accuracy < 30%\n",
    "arm a { prune filters 20% x 2; rewind weights to 1ep }\narm b { prune filters 20% x 2; rewind lr }\n"
    "arm c { prune filters 30% until 60%; rewind weights to 2ep }\ncompare all\n",
    "seeds 3\nprune weights 50%; rewind weights\nreport latency\n",
)


@cache
def study(number: int) -> Study:
    return make_study(PLANS[number % len(PLANS)])


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, if the system has one."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as name:
        yield Path(name)


@pytest.mark.parametrize("seed", range(4))
def test_some_disturbed_runs(folder: Path, seed: int) -> None:
    simulate(study(seed), folder, seed)


@pytest.mark.slow
@pytest.mark.parametrize("hundred", range(1, 11))
def test_a_thousand_disturbed_runs(folder: Path, hundred: int) -> None:
    for seed in range(100 * hundred, 100 * hundred + 100):
        try:
            simulate(study(seed), folder / str(seed), seed)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
