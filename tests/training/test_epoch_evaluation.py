"""Tests in parallel with the next epoch's steps give the results of tests at once.

A stand-in for the GPU runs each test late, so that a test whose weights have changed in the meantime is noticed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import attrs
import pytest
import torch
from torch import Tensor, nn

from tickdsl.errors import TickdslError
from tickdsl.training import async_evaluation, epoch_evaluation, loop, models
from tickdsl.training.async_evaluation import EpochSums
from tickdsl.training.checkpoints import Checkpointer
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.history import EpochReport, TrainingHistory
from tickdsl.training.job import TrainingJob
from tickdsl.training.measured_choices import InMemoryChoices
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.stacked.training import train_stacked

#: Six full batches and a smaller one per epoch.
RECIPE = Recipe(length="3ep", lr=0.05, batch=16, decay=5e-4, schedule="cosine", augment=("crop", "flip"))
PER_EPOCH = 7


@attrs.define
class Late:
    """An evaluator that runs its work at the `delay`-th query, or when waited for."""

    delay: int
    networks: int = 0  # stacked; 0: a single network
    started: int = 0
    waited: int = 0
    short_of_memory: int | None = None  # from this test on
    attempts: int = 0
    copy_fits: bool = True

    def has_memory(self) -> bool:
        return self.copy_fits

    def __call__(self, work: Callable[[], Tensor]) -> EpochSums:
        self.attempts += 1
        if self.started == self.short_of_memory:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.started += 1
        sums = torch.full((3, self.networks) if self.networks else (3,), float("nan"), dtype=torch.float64)
        return EpochSums(sums, _LateEvent(self, work, sums))


@attrs.define
class _LateEvent:
    late: Late
    work: Callable[[], Tensor] | None
    sums: Tensor
    queries: int = 0

    def query(self) -> bool:
        self.queries += 1
        if self.queries >= self.late.delay:
            self._do()
        return self.work is None

    def synchronize(self) -> None:
        if self.work is not None:
            self.late.waited += 1
            self._do()

    def _do(self) -> None:
        if self.work is not None:
            self.sums.copy_(self.work())
            self.work = None


@pytest.fixture(scope="module")
def tiny() -> Dataset:
    return datasets.load("synthetic", options={"size": 8, "channels": 1, "train": 100, "test": 40, "classes": 4})


@pytest.fixture
def run_late(monkeypatch: pytest.MonkeyPatch) -> Callable[[Late], Late]:
    def use(late: Late) -> Late:
        monkeypatch.setattr(epoch_evaluation, "async_evaluator", lambda device: late)
        return late

    return use


def _job(tiny: Dataset, seed: int = 0, recipe: Recipe = RECIPE, **more: object) -> TrainingJob:
    model = models.create("small-cnn", classes=4, shape=(1, 8, 8), seed=seed, options={"width": 0.5})
    masks = {name: p.detach() > 0 for name, p in model.named_parameters() if p.dim() > 1}
    return TrainingJob(model=model, data=tiny, recipe=recipe, seed=seed, masks=masks, **more)


def _train(job: TrainingJob, before_step: Callable[[], None] | None = None) -> TrainingHistory:
    return loop.train(**job.as_kwargs(), before_step=before_step)


def _equal(one: TrainingJob, other: TrainingJob) -> bool:
    theirs = other.model.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in one.model.state_dict().items())


@pytest.mark.parametrize("delay", [1, 2, 5, 1000])
def test_late_tests_give_the_results_of_tests_at_once(
    tiny: Dataset, run_late: Callable[[Late], Late], delay: int
) -> None:
    plain = _job(tiny)
    expected = _train(plain)
    steps: list[int] = []
    reports: list[tuple[int, EpochReport]] = []
    late = run_late(Late(delay))
    job = _job(tiny, on_epoch=lambda report: reports.append((len(steps), report)))
    history = _train(job, before_step=lambda: steps.append(0))
    assert history == expected
    assert _equal(job, plain)
    assert late.started == 3
    assert [report for _, report in reports] == list(expected.epochs)
    # Reported after `delay` queries, one per step, and at the latest at the end of the next epoch.
    later = min(delay - 1, PER_EPOCH)
    assert [at for at, _ in reports] == [PER_EPOCH + later, 2 * PER_EPOCH + later, 3 * PER_EPOCH]
    assert late.waited == (3 if delay == 1000 else 1), "only the last test is waited for"


@pytest.mark.parametrize("interrupt_at", [PER_EPOCH, PER_EPOCH + 2, 2 * PER_EPOCH - 1])
def test_a_training_interrupted_during_a_test_resumes(
    tiny: Dataset, run_late: Callable[[Late], Late], tmp_path: Path, interrupt_at: int
) -> None:
    plain = _job(tiny)
    expected = _train(plain)
    run_late(Late(1000))
    reports: list[EpochReport] = []
    kept = Checkpointer(tmp_path, every_seconds=1e9)
    steps: list[int] = []

    def interrupt() -> None:
        if len(steps) == interrupt_at:
            kept.save_now()
            raise InterruptedError
        steps.append(0)

    with pytest.raises(InterruptedError):
        _train(_job(tiny, checkpoint=kept, on_epoch=reports.append), interrupt)
    assert reports == []
    job = _job(tiny, checkpoint=Checkpointer(tmp_path), on_epoch=reports.append)
    assert _train(job) == expected
    assert reports == list(expected.epochs)
    assert _equal(job, plain)


@pytest.mark.parametrize("late", [None, Late(1000)], ids=["at once", "late"])
@pytest.mark.parametrize("after", [0, 2])
def test_a_diverged_training_fails_and_hands_out_no_weights(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch, late: Late | None, after: int
) -> None:
    monkeypatch.setattr(epoch_evaluation, "async_evaluator", lambda device: late)
    handed_out: list[object] = []
    job = _job(tiny, recipe=attrs.evolve(RECIPE, lr=1e9), step_callbacks={PER_EPOCH + after: handed_out.append})
    steps: list[int] = []
    with pytest.raises(TickdslError, match="in epoch 1"):
        _train(job, lambda: steps.append(0))
    assert len(steps) == PER_EPOCH + (after if late is not None else 0)
    assert handed_out == []


def test_a_stack_can_be_tested_late(tiny: Dataset, run_late: Callable[[Late], Late]) -> None:
    plain = [_job(tiny, seed) for seed in range(3)]
    expected = train_stacked(plain, InMemoryChoices())
    late = run_late(Late(4, networks=3))
    reports: list[EpochReport] = []
    jobs = [_job(tiny, seed, on_epoch=reports.append) for seed in range(3)]
    assert train_stacked(jobs, InMemoryChoices()) == expected
    assert late.started == 3
    assert sorted(reports, key=lambda report: report.epoch) == reports
    assert all(_equal(one, other) for one, other in zip(jobs, plain, strict=True))


@pytest.mark.parametrize("short", [0, 1])
def test_tests_run_at_once_if_memory_runs_out(tiny: Dataset, run_late: Callable[[Late], Late], short: int) -> None:
    expected = _train(_job(tiny))
    late = run_late(Late(1000, short_of_memory=short))
    assert _train(_job(tiny)) == expected
    assert (late.started, late.attempts) == (short, short + 1)


def test_tests_run_at_once_if_a_copy_does_not_fit(tiny: Dataset, run_late: Callable[[Late], Late]) -> None:
    expected = _train(_job(tiny))
    late = run_late(Late(1000, copy_fits=False))
    assert _train(_job(tiny)) == expected
    assert late.attempts == 0


class Remembers(nn.Module):
    """Keeps a tensor of the last step, which `copy.deepcopy` refuses."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        self.last = self.inner(images)
        return self.last


def test_a_network_that_cannot_be_copied_is_tested_at_once(tiny: Dataset, run_late: Callable[[Late], Late]) -> None:
    plain, job = (attrs.evolve(base, model=Remembers(base.model), masks={}) for base in (_job(tiny), _job(tiny)))
    expected = _train(plain)
    late = run_late(Late(1000))
    assert _train(job) == expected
    assert late.attempts == 0
    assert _equal(job, plain)


def test_an_error_in_a_test_is_raised(tiny: Dataset, run_late: Callable[[Late], Late]) -> None:
    class Fails(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            if not self.training:
                raise RuntimeError("no tests, please")
            return images.flatten(1)[:, :4] * self.one

        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Parameter(torch.ones(1))

    run_late(Late(1))
    with pytest.raises(RuntimeError, match="no tests, please"):
        _train(attrs.evolve(_job(tiny), model=Fails(), masks={}))


@pytest.mark.parametrize(("device", "peak", "room"), [("cuda", 19, True), ("cuda", 20, False), ("cuda:1", 19, True)])
def test_a_copy_may_use_half_of_the_memory_limit(
    monkeypatch: pytest.MonkeyPatch, device: str, peak: int, room: bool
) -> None:
    """`cuda` means the current device, whose index some of torch's functions need."""
    indices: list[int] = []
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda.memory, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch._C, "_cuda_getMemoryFraction", lambda index: indices.append(index) or 0.4, raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=100))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peak)
    assert async_evaluation.CudaStreamEvaluator(torch.device(device)).has_memory() is room
    assert indices == [torch.device(device).index or 0]


def test_tests_run_at_once_on_a_cpu() -> None:
    assert async_evaluation.async_evaluator(torch.device("cpu")) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    late = loop.train(**_job(tiny).as_kwargs(), device="cuda")
    monkeypatch.setattr(epoch_evaluation, "async_evaluator", lambda device: None)
    plain = loop.train(**_job(tiny).as_kwargs(), device="cuda")
    for one, other in zip(late.epochs, plain.epochs, strict=True):
        assert one.test_loss == pytest.approx(other.test_loss, rel=1e-2)
