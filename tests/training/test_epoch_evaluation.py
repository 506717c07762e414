"""Tests beside the next epoch's steps tell what tests at once tell. What does work beside is a stand-in: no GPU is
wanted. It works late, on what it was given, so that a test of weights which have changed meanwhile is found out.
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

#: Six whole batches and a smaller one each epoch.
RECIPE = Recipe(length="3ep", lr=0.05, batch=16, decay=5e-4, schedule="cosine", augment=("crop", "flip"))
PER_EPOCH = 7


@attrs.define
class Late:
    """Does work when it has been asked for `asks` times whether it is done, or is waited for."""

    asks: int
    networks: int = 0  # in one; 0: a network alone
    begun: int = 0
    waited: int = 0
    short_of_memory: int | None = None  # from this test on
    tried: int = 0
    has_room: bool = True

    def has_memory(self) -> bool:
        return self.has_room

    def __call__(self, work: Callable[[], Tensor]) -> EpochSums:
        self.tried += 1
        if self.begun == self.short_of_memory:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.begun += 1
        sums = torch.full((3, self.networks) if self.networks else (3,), float("nan"), dtype=torch.float64)
        return EpochSums(sums, _LateEvent(self, work, sums))


@attrs.define
class _LateEvent:
    late: Late
    work: Callable[[], Tensor] | None
    sums: Tensor
    asked: int = 0

    def query(self) -> bool:
        self.asked += 1
        if self.asked >= self.late.asks:
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
def lately(monkeypatch: pytest.MonkeyPatch) -> Callable[[Late], Late]:
    def use(late: Late) -> Late:
        monkeypatch.setattr(epoch_evaluation, "async_evaluator", lambda device: late)
        return late

    return use


def _given(tiny: Dataset, seed: int = 0, recipe: Recipe = RECIPE, **more: object) -> TrainingJob:
    model = models.create("small-cnn", classes=4, shape=(1, 8, 8), seed=seed, options={"width": 0.5})
    masks = {name: p.detach() > 0 for name, p in model.named_parameters() if p.dim() > 1}
    return TrainingJob(model=model, data=tiny, recipe=recipe, seed=seed, masks=masks, **more)


def _train(given: TrainingJob, before_step: Callable[[], None] | None = None) -> TrainingHistory:
    return loop.train(**given.as_kwargs(), before_step=before_step)


def _equal(one: TrainingJob, other: TrainingJob) -> bool:
    theirs = other.model.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in one.model.state_dict().items())


@pytest.mark.parametrize("asks", [1, 2, 5, 1000])
def test_late_tests_are_those_at_once(tiny: Dataset, lately: Callable[[Late], Late], asks: int) -> None:
    plain = _given(tiny)
    expected = _train(plain)
    steps: list[int] = []
    told: list[tuple[int, EpochReport]] = []
    late = lately(Late(asks))
    given = _given(tiny, on_epoch=lambda report: told.append((len(steps), report)))
    history = _train(given, before_step=lambda: steps.append(0))
    assert history == expected
    assert _equal(given, plain)
    assert late.begun == 3
    assert [report for _, report in told] == list(expected.epochs)
    # Told as soon as it is asked for often enough, once a step; at the latest where the next epoch ends.
    later = min(asks - 1, PER_EPOCH)
    assert [at for at, _ in told] == [PER_EPOCH + later, 2 * PER_EPOCH + later, 3 * PER_EPOCH]
    assert late.waited == (3 if asks == 1000 else 1), "the last one is waited for"


@pytest.mark.parametrize("left", [PER_EPOCH, PER_EPOCH + 2, 2 * PER_EPOCH - 1])
def test_left_before_its_sums_came(tiny: Dataset, lately: Callable[[Late], Late], tmp_path: Path, left: int) -> None:
    plain = _given(tiny)
    expected = _train(plain)
    lately(Late(1000))
    told: list[EpochReport] = []
    kept = Checkpointer(tmp_path, every_seconds=1e9)
    steps: list[int] = []

    def leave() -> None:
        if len(steps) == left:
            kept.save_now()
            raise InterruptedError
        steps.append(0)

    with pytest.raises(InterruptedError):
        _train(_given(tiny, checkpoint=kept, on_epoch=told.append), leave)
    assert told == []
    given = _given(tiny, checkpoint=Checkpointer(tmp_path), on_epoch=told.append)
    assert _train(given) == expected
    assert told == list(expected.epochs)
    assert _equal(given, plain)


@pytest.mark.parametrize("late", [None, Late(1000)], ids=["at once", "late"])
@pytest.mark.parametrize("after", [0, 2])
def test_a_training_that_diverged_is_found_out_and_leaves_no_weights(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch, late: Late | None, after: int
) -> None:
    monkeypatch.setattr(epoch_evaluation, "async_evaluator", lambda device: late)
    handed: list[object] = []
    given = _given(tiny, recipe=attrs.evolve(RECIPE, lr=1e9), step_callbacks={PER_EPOCH + after: handed.append})
    steps: list[int] = []
    with pytest.raises(TickdslError, match="in epoch 1"):
        _train(given, lambda: steps.append(0))
    assert len(steps) == PER_EPOCH + (after if late is not None else 0)
    assert handed == []


def test_a_stack_is_tested_late_too(tiny: Dataset, lately: Callable[[Late], Late]) -> None:
    plain = [_given(tiny, seed) for seed in range(3)]
    expected = train_stacked(plain, InMemoryChoices())
    late = lately(Late(4, networks=3))
    told: list[EpochReport] = []
    given = [_given(tiny, seed, on_epoch=told.append) for seed in range(3)]
    assert train_stacked(given, InMemoryChoices()) == expected
    assert late.begun == 3
    assert sorted(told, key=lambda report: report.epoch) == told
    assert all(_equal(one, other) for one, other in zip(given, plain, strict=True))


@pytest.mark.parametrize("short", [0, 1])
def test_with_little_memory_tests_are_done_at_once(tiny: Dataset, lately: Callable[[Late], Late], short: int) -> None:
    expected = _train(_given(tiny))
    late = lately(Late(1000, short_of_memory=short))
    assert _train(_given(tiny)) == expected
    assert (late.begun, late.tried) == (short, short + 1)


def test_without_room_for_a_copy_tests_are_done_at_once(tiny: Dataset, lately: Callable[[Late], Late]) -> None:
    expected = _train(_given(tiny))
    late = lately(Late(1000, has_room=False))
    assert _train(_given(tiny)) == expected
    assert late.tried == 0


class Remembers(nn.Module):
    """Keeps a tensor of the last step, which torch does not copy."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, pictures: Tensor) -> Tensor:
        self.last = self.inner(pictures)
        return self.last


def test_a_network_that_cannot_be_copied_is_tested_at_once(tiny: Dataset, lately: Callable[[Late], Late]) -> None:
    plain, given = (attrs.evolve(each, model=Remembers(each.model), masks={}) for each in (_given(tiny), _given(tiny)))
    expected = _train(plain)
    late = lately(Late(1000))
    assert _train(given) == expected
    assert late.tried == 0
    assert _equal(given, plain)


def test_what_is_wrong_with_a_test_is_told(tiny: Dataset, lately: Callable[[Late], Late]) -> None:
    class Fails(nn.Module):
        def forward(self, pictures: Tensor) -> Tensor:
            if not self.training:
                raise RuntimeError("no tests, please")
            return pictures.flatten(1)[:, :4] * self.one

        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Parameter(torch.ones(1))

    lately(Late(1))
    with pytest.raises(RuntimeError, match="no tests, please"):
        _train(attrs.evolve(_given(tiny), model=Fails(), masks={}))


@pytest.mark.parametrize(("device", "peak", "room"), [("cuda", 19, True), ("cuda", 20, False), ("cuda:1", 19, True)])
def test_room_is_half_of_what_the_process_may_take(
    monkeypatch: pytest.MonkeyPatch, device: str, peak: int, room: bool
) -> None:
    """`cuda` is the current device, which torch's functions do not all know."""
    indices: list[int] = []
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda.memory, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch._C, "_cuda_getMemoryFraction", lambda index: indices.append(index) or 0.4, raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=100))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peak)
    assert async_evaluation.CudaStreamEvaluator(torch.device(device)).has_memory() is room
    assert indices == [torch.device(device).index or 0]


def test_on_a_cpu_nothing_is_late() -> None:
    assert async_evaluation.async_evaluator(torch.device("cpu")) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    late = loop.train(**_given(tiny).as_kwargs(), device="cuda")
    monkeypatch.setattr(epoch_evaluation, "async_evaluator", lambda device: None)
    plain = loop.train(**_given(tiny).as_kwargs(), device="cuda")
    for one, other in zip(late.epochs, plain.epochs, strict=True):
        assert one.test_loss == pytest.approx(other.test_loss, rel=1e-2)
