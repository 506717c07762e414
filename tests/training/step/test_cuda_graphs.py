"""Steps that are recorded and replayed train as steps that are not. What records is a stand-in: no GPU is wanted."""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Callable

import attrs
import pytest
import torch
from torch import Tensor, nn

from tickdsl.gc_control import gc_disabled
from tickdsl.training import loop, models
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.data.device_dataset import DeviceDataset
from tickdsl.training.history import TrainingHistory
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.step import captured_step, cuda_graphs, optimiser_step
from tickdsl.training.step.captured_step import WARM_UP_STEPS, should_capture
from tickdsl.training.step.distillation import Distillation
from tickdsl.training.step.optimiser_step import OptimiserStep
from tickdsl.training.training_run import TrainingRun

RECIPE = Recipe(length="3ep", lr=0.05, batch=16, decay=5e-4, schedule="cosine", augment=("crop", "flip"))
CUDA = torch.device("cuda")


@attrs.define
class Standing:
    """Does recorded work again as a graph would: on the tensors and with the numbers that it was recorded with."""

    fails: bool = False
    forgets: bool = False
    warm: int = 0
    recorded: int = 0
    replayed: int = 0

    def warm_up(self, work: Callable[[], None]) -> None:
        self.warm += 1
        work()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.recorded += 1

        def again() -> None:
            self.replayed += 1
            if not self.forgets:
                work()

        return again


@pytest.fixture(scope="module")
def tiny() -> Dataset:
    return datasets.load("synthetic", options={"size": 8, "channels": 1, "train": 100, "test": 40, "classes": 4})


def _network() -> nn.Module:
    return nn.Sequential(nn.Dropout(0.2), models.create("small-cnn", classes=4, shape=(1, 8, 8), seed=0))


def _masks(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach() > 0 for name, p in model.named_parameters() if p.dim() > 1}


def _trained(
    tiny: Dataset,
    recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
    recorder: Standing,
    distillation: Distillation | None = None,
) -> tuple[nn.Module, TrainingHistory]:
    """A training as on CUDA, with the rate in a tensor and with captured steps."""
    with monkeypatch.context() as patch:
        patch.setattr(optimiser_step, "should_capture", lambda device, recipe: should_capture(CUDA, recipe))
        patch.setattr(optimiser_step, "CudaGraphRecorder", lambda optimizer: recorder)
        model = _network()
        return model, loop.train(model, tiny, recipe, seed=1, masks=_masks(model), distillation=distillation)


def _plain(
    tiny: Dataset, recipe: Recipe, distillation: Distillation | None = None
) -> tuple[nn.Module, TrainingHistory]:
    model = _network()
    return model, loop.train(model, tiny, recipe, seed=1, masks=_masks(model), distillation=distillation)


def _close(one: nn.Module, other: nn.Module) -> None:
    for (name, ours), theirs in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        # The rate is rounded to float32 on its way into a tensor.
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_whole_batches_are_replayed_and_the_last_one_is_not(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    recorder = Standing()
    recipe = attrs.evolve(RECIPE, optimizer=optimizer, lr=0.05 if optimizer == "sgd" else 1e-3)
    model, history = _trained(tiny, recipe, monkeypatch, recorder)
    expected, plain = _plain(tiny, recipe)
    assert history.steps_per_epoch == 7  # six of 16 pictures, and four pictures
    assert (recorder.warm, recorder.recorded) == (WARM_UP_STEPS, 1)
    assert recorder.replayed == 3 * 6 - WARM_UP_STEPS
    _close(model, expected)
    assert [epoch.test_accuracy for epoch in history.epochs] == [epoch.test_accuracy for epoch in plain.epochs]


def test_a_lesson_that_ends_is_recorded_with_it_and_without(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def distillation() -> Distillation:
        return Distillation(models.create("small-cnn", classes=4, shape=(1, 8, 8), seed=5), 4.0, 0.7, until=10)

    recorder = Standing()
    model, _ = _trained(tiny, RECIPE, monkeypatch, recorder, distillation())
    assert recorder.recorded == 2
    _close(model, _plain(tiny, RECIPE, distillation())[0])


@pytest.mark.parametrize(("recorder", "why"), [
    (Standing(fails=True), "cannot be recorded"),
    (Standing(forgets=True), "different results"),
])  # fmt: skip
def test_what_cannot_be_replayed_is_done(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch, recorder: Standing, why: str
) -> None:
    with pytest.warns(UserWarning, match=why):
        model, _ = _trained(tiny, RECIPE, monkeypatch, recorder)
    assert recorder.replayed <= 1
    _close(model, _plain(tiny, RECIPE)[0])


def test_a_recording_that_reads_an_old_batch_is_found_out(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captured_step._RecordedStep, "replay", lambda self, inputs: self._replay())
    monkeypatch.setattr(
        captured_step, "_clones", lambda inputs: [torch.zeros_like(tensor) for tensor in inputs]
    )  # fmt: skip
    with pytest.warns(UserWarning, match="different results"):
        model, _ = _trained(tiny, RECIPE, monkeypatch, Standing())
    _close(model, _plain(tiny, RECIPE)[0])


def test_where_steps_are_captured() -> None:
    assert should_capture(CUDA, RECIPE)
    assert not should_capture(torch.device("cpu"), RECIPE)
    assert not should_capture(CUDA, attrs.evolve(RECIPE, schedule="one-cycle"))


@attrs.define
class Torn:
    """A graph whose recording waited for the device."""

    def capture_begin(self, pool: object) -> None:
        pass

    def capture_end(self) -> None:
        raise RuntimeError("operation failed due to a previous error during capture")


def test_after_a_torn_recording_no_other_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    given_back: list[object] = []
    torn = {
        "CUDAGraph": Torn, "Stream": object, "stream": lambda stream: contextlib.nullcontext(),
        "graph_pool_handle": lambda: (0, 7), "current_device": lambda: 3, "synchronize": lambda: None,
        "empty_cache": lambda: None,
    }  # fmt: skip
    for name, stand_in in torn.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    for name in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
        monkeypatch.setattr(torch._C, name, lambda *given: given_back.append(given), raising=False)
    monkeypatch.setattr(cuda_graphs.CudaGraphRecorder, "_capture_broken", False)
    monkeypatch.setattr(cuda_graphs, "_capture_stream", lambda: None)
    recorder = cuda_graphs.CudaGraphRecorder(torch.optim.Adam([nn.Parameter(torch.zeros(1))]))

    def waits() -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    step = captured_step.CapturedStep(
        lambda x: waits() if not torn_already else None,
        batch=4, mutated=list, reseed=lambda: torn_already.append(True), recorder=recorder,
    )  # fmt: skip
    torn_already: list[bool] = []
    step._warm_up_steps = WARM_UP_STEPS
    with pytest.warns(UserWarning, match=r"cannot be recorded \(operation not permitted"):
        step(torch.zeros(4))
    assert given_back == [(3, (0, 7)), (3, (0, 7))]
    with pytest.raises(RuntimeError, match="was interrupted"):
        recorder.record(lambda: None)
    assert gc.isenabled()


def test_what_could_not_be_recorded_is_let_go_before_the_step(tiny: Dataset) -> None:
    """Both together may not find room on the device."""
    made: list[weakref.ref[Tensor]] = []

    class Full(Standing):
        def record(self, work: Callable[[], None]) -> Callable[[], None]:
            tensor = torch.zeros(1)
            made.append(weakref.ref(tensor))
            raise torch.OutOfMemoryError("CUDA out of memory")

    alive: list[bool] = []
    step = captured_step.CapturedStep(
        lambda x: alive.extend(ref() is not None for ref in made),
        batch=4, mutated=list, reseed=lambda: None, recorder=Full(),
    )  # fmt: skip
    with pytest.warns(UserWarning, match="out of memory"):
        for _ in range(WARM_UP_STEPS + 1):
            step(torch.zeros(4))
    assert alive == [False]


def test_nothing_of_a_training_is_left_when_it_is_over(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not until Python looks for cycles, which it does not do for want of a GPU's memory."""
    _plain(tiny, RECIPE)  # the first optimiser of a process imports much, and what fails there holds its callers
    made: list[weakref.ref[object]] = []

    def remember(cls: type) -> None:
        begin = cls.__init__

        def begun(self: object, *given: object, **named: object) -> None:
            begin(self, *given, **named)
            made.append(weakref.ref(self))

        monkeypatch.setattr(cls, "__init__", begun)

    for cls in (TrainingRun, DeviceDataset, OptimiserStep, captured_step.CapturedStep, captured_step._RecordedStep):
        remember(cls)
    with gc_disabled():
        _trained(tiny, RECIPE, monkeypatch, Standing())
        assert len(made) == 5
        assert [ref() for ref in made] == [None] * 5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_on_a_gpu(tiny: Dataset, monkeypatch: pytest.MonkeyPatch, optimizer: str) -> None:
    recipe = attrs.evolve(RECIPE, optimizer=optimizer, lr=0.01)
    replayed, eager = _network(), _network()
    loop.train(replayed, tiny, recipe, seed=1, masks=_masks(replayed), device="cuda")
    monkeypatch.setattr(optimiser_step, "should_capture", lambda device, recipe: False)
    loop.train(eager, tiny, recipe, seed=1, masks=_masks(eager), device="cuda")
    for ours, theirs in zip(replayed.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-4)
