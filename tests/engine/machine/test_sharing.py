"""The number of jobs on a machine, and the threads and memory of each."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tickdsl.engine.machine import job_limits
from tickdsl.engine.prepare_study import prepare_study
from tickdsl.engine.steps.settings import Settings
from tickdsl.engine.workers.worker import Worker
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.plan.study import Study

SMALL = "model small-cnn\ndata synthetic size=8 train=64 test=32\n"
LARGE = "model vgg16\ndata synthetic size=32 train=64 test=32\n"
ROUNDS = "train 2ep\nseeds 3\nprune weights 20% x 2; rewind lr"


def study(head: str, text: str = ROUNDS) -> Study:
    found = resolve(load_source(Source("test.plan", head + text)))
    assert found.plan is not None, found.diagnostics
    return prepare_study(found.plan, device=torch.device("cpu"))


@pytest.fixture
def sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_limits, "available_cores", lambda: 16)


@pytest.mark.usefixtures("sixteen")
def test_on_a_gpu_small_steps_run_side_by_side_and_large_ones_alone() -> None:
    assert job_limits.default_jobs("cuda", study(SMALL)) == 4
    assert job_limits.default_jobs("cuda", study(LARGE)) == 1
    assert job_limits.default_jobs("cuda", study(SMALL, "train 1ep\nprune weights 20%; rewind lr")) == 2  # no more work


@pytest.mark.usefixtures("sixteen")
@pytest.mark.parametrize("jobs", [1, 2, 3, 5, 16, 40])
def test_threads_never_outnumber_the_cores(jobs: int) -> None:
    threads = job_limits.threads_per_job(study(LARGE).plan, Path(), jobs)
    assert threads >= 1 and (threads * jobs <= 16 or threads == 1)
    assert job_limits.threads_per_job(study(SMALL).plan, Path(), jobs) == 1, "the step is too small for two threads"


def test_cores_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_limits.os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert job_limits.available_cores() == 3


@pytest.mark.parametrize(("jobs", "shares"), [(1, []), (2, [0.45]), (4, [0.225])])
def test_tasks_on_one_gpu_divide_its_memory(
    jobs: int, shares: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds: list[float] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, device: bounds.append(share))
    Worker(Settings(tmp_path / "store", tmp_path, device="cuda", jobs=jobs), lambda message: None)
    assert bounds == pytest.approx(shares)
    Worker(Settings(tmp_path / "store", tmp_path, device="cpu", jobs=jobs), lambda message: None)
    assert len(bounds) == len(shares)
