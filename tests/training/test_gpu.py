"""On a GPU: what the fake second device claims, and bits that are the same each time. Skipped where there is none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import torch
from device_plans import PLANS

from tickdsl.cli import main
from tickdsl.training import devices, loop, models
from tickdsl.training.checkpoints import Checkpointer
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.job import TrainingJob
from tickdsl.training.measured_choices import InMemoryChoices
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.stacked.training import train_stacked

pytestmark = [pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"), pytest.mark.slow]
RECIPE = Recipe(length="3ep", lr=0.01, batch=16, decay=5e-4, schedule="cosine")


@pytest.fixture(scope="module")
def tiny() -> Dataset:
    return datasets.load("synthetic", options={"size": 8, "channels": 1, "train": 100, "test": 40, "classes": 4})


@pytest.fixture
def deterministic() -> Iterator[None]:
    with devices.deterministic_algorithms():
        yield


def make_job(tiny: Dataset, seed: int = 0, checkpoint: Checkpointer | None = None) -> TrainingJob:
    model = models.create("small-cnn", classes=4, shape=(1, 8, 8), seed=seed)
    masks = {name: p.detach() > 0 for name, p in model.named_parameters() if p.dim() > 1}
    more = {} if checkpoint is None else {"checkpoint": checkpoint}
    return TrainingJob(model=model, data=tiny, recipe=RECIPE, seed=seed, masks=masks, layout="contiguous", **more)


def assert_close(one: TrainingJob, other: TrainingJob, rtol: float = 1e-2, atol: float = 1e-3) -> None:
    expected = other.model.state_dict()
    for name, tensor in one.model.state_dict().items():
        torch.testing.assert_close(tensor.cpu(), expected[name].cpu(), rtol=rtol, atol=atol)


def test_on_a_gpu_a_training_ends_where_it_does_on_the_cpu(tiny: Dataset) -> None:
    on_gpu, on_cpu = make_job(tiny), make_job(tiny)
    loop.train(**on_gpu.as_kwargs(), device="cuda")
    loop.train(**on_cpu.as_kwargs(), device="cpu")
    assert_close(on_gpu, on_cpu)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_on_a_gpu_two_deterministic_trainings_have_the_same_bits(
    tiny: Dataset, deterministic: None, optimizer: str
) -> None:
    jobs = [attrs.evolve(make_job(tiny), recipe=attrs.evolve(RECIPE, optimizer=optimizer)) for _ in range(2)]
    for job in jobs:
        loop.train(**job.as_kwargs(), device="cuda")
    assert_close(*jobs, rtol=0, atol=0)


def test_on_a_gpu_stacked_trainings_end_where_single_ones_do(tiny: Dataset) -> None:
    stacked, single = ([make_job(tiny, seed) for seed in range(3)] for _ in range(2))
    train_stacked(stacked, InMemoryChoices(), device=torch.device("cuda"))
    for one, other in zip(stacked, single, strict=True):
        loop.train(**other.as_kwargs(), device="cuda")
        assert_close(one, other)


def test_on_a_gpu_a_stopped_training_is_continued(tiny: Dataset, deterministic: None, tmp_path: Path) -> None:
    steps = iter(range(100))
    stopped = make_job(tiny, checkpoint=Checkpointer(tmp_path))

    def before_step() -> None:
        if next(steps) == 10:
            stopped.checkpoint.save_now()
            raise InterruptedError

    with pytest.raises(InterruptedError):
        loop.train(**stopped.as_kwargs(), device="cuda", before_step=before_step)
    continued, whole = make_job(tiny, checkpoint=Checkpointer(tmp_path)), make_job(tiny)
    loop.train(**continued.as_kwargs(), device="cuda")
    loop.train(**whole.as_kwargs(), device="cuda")
    assert_close(continued, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("text", PLANS.values(), ids=list(PLANS))
def test_on_a_gpu_a_plan_runs(text: str, tmp_path: Path) -> None:
    plan = tmp_path / "test.plan"
    plan.write_text(text)
    folders = ["--store", tmp_path / "store", "--out", tmp_path / "runs"]
    arguments = ("run", plan, *folders, "--jobs", 1, "--no-tensorboard", "--device", "cuda")
    assert main([str(word) for word in arguments]) == 0
    results = [json.loads(path.read_text()) for path in (tmp_path / "store").glob("results/*/*/result.json")]
    assert {torch.device(result["made"]["device"]).type for result in results} == {"cuda"}
