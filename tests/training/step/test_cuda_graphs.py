"""Recorded and replayed steps train as uncaptured ones. A stand-in records, so that no GPU is needed."""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Callable
from typing import Any

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
from tickdsl.training.sparsifiers.evolving import Evolution
from tickdsl.training.sparsifiers.gradual import GradualPruning
from tickdsl.training.sparsifiers.penalty import RisingPenalty
from tickdsl.training.sparsifiers.protocol import Sparsifier
from tickdsl.training.sparsifiers.zeroing import SoftPruning
from tickdsl.training.step import captured_step, cuda_graphs, optimiser_step
from tickdsl.training.step.captured_step import WARM_UP_STEPS, should_capture
from tickdsl.training.step.distillation import Distillation
from tickdsl.training.step.optimiser_step import OptimiserStep
from tickdsl.training.training_run import TrainingRun

RECIPE = Recipe(length="3ep", lr=0.05, batch=16, decay=5e-4, schedule="cosine", augment=("crop", "flip"))
CUDA = torch.device("cuda")


@attrs.define
class FakeRecorder:
    """A recorder that repeats the work as a graph would: on the tensors and with the numbers of the recording."""

    fails: bool = False
    skips_work: bool = False
    warm_ups: int = 0
    recorded: int = 0
    replayed: int = 0

    def warm_up(self, work: Callable[[], None]) -> None:
        self.warm_ups += 1
        work()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            if not self.skips_work:
                work()

        return replay


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
    recorder: FakeRecorder,
    distillation: Distillation | None = None,
    **more: Any,
) -> tuple[nn.Module, TrainingHistory]:
    """A training as on CUDA, with the learning rate in a tensor and captured steps."""
    with monkeypatch.context() as patch:
        patch.setattr(optimiser_step, "should_capture", lambda device, recipe: should_capture(CUDA, recipe))
        patch.setattr(optimiser_step, "CudaGraphRecorder", lambda optimizer: recorder)
        model = _network()
        return model, loop.train(model, tiny, recipe, seed=1, masks=_masks(model), distillation=distillation, **more)


def _plain(
    tiny: Dataset, recipe: Recipe, distillation: Distillation | None = None, **more: Any
) -> tuple[nn.Module, TrainingHistory]:
    model = _network()
    return model, loop.train(model, tiny, recipe, seed=1, masks=_masks(model), distillation=distillation, **more)


def _close(one: nn.Module, other: nn.Module) -> None:
    for (name, ours), theirs in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        # The learning rate is rounded to float32 in its tensor.
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_only_full_batches_are_replayed(tiny: Dataset, monkeypatch: pytest.MonkeyPatch, optimizer: str) -> None:
    recorder = FakeRecorder()
    recipe = attrs.evolve(RECIPE, optimizer=optimizer, lr=0.05 if optimizer == "sgd" else 1e-3)
    model, history = _trained(tiny, recipe, monkeypatch, recorder)
    expected, plain = _plain(tiny, recipe)
    assert history.steps_per_epoch == 7  # six of 16 images, and one of 4
    assert (recorder.warm_ups, recorder.recorded) == (WARM_UP_STEPS, 1)
    assert recorder.replayed == 3 * 6 - WARM_UP_STEPS
    _close(model, expected)
    assert [epoch.test_accuracy for epoch in history.epochs] == [epoch.test_accuracy for epoch in plain.epochs]


def test_distillation_that_ends_is_recorded_twice(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def distillation() -> Distillation:
        return Distillation(models.create("small-cnn", classes=4, shape=(1, 8, 8), seed=5), 4.0, 0.7, until=10)

    recorder = FakeRecorder()
    model, _ = _trained(tiny, RECIPE, monkeypatch, recorder, distillation())
    assert recorder.recorded == 2
    _close(model, _plain(tiny, RECIPE, distillation())[0])


WEIGHTS = ("1.conv2.weight", "1.fc.weight")


@pytest.mark.parametrize(
    "kind", ["set", "rigl", "gradual", "movement", "penalty", "soft", "bn-l1"]
)  # fmt: skip
def test_replayed_steps_read_masks_that_change(tiny: Dataset, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Masks, scores and the factor of a penalty are changed in place, so the graph reads what they are now."""

    def sparsifier() -> Sparsifier | None:
        match kind:
            case "set" | "rigl":
                return Evolution(0.4, 4, 20, "random" if kind == "set" else "gradient")
            case "gradual" | "movement":
                by = "magnitude" if kind == "gradual" else "movement"
                return GradualPruning(WEIGHTS, {step: [2400 - 100 * step] for step in range(2, 21, 3)}, by)
            case "penalty":
                chosen = {name: p.detach() < 0 for name, p in _network().named_parameters() if name in WEIGHTS}
                return RisingPenalty(chosen, 0.2, 2, 1.0)
            case "soft":
                return SoftPruning(lambda state: {name: state[name].abs() < 0.03 for name in WEIGHTS}, 5, 21)
        return None

    recipe = attrs.evolve(RECIPE, bn_l1=0.01) if kind == "bn-l1" else RECIPE
    recorder = FakeRecorder()
    model, history = _trained(tiny, recipe, monkeypatch, recorder, sparsifier=sparsifier())
    expected, plain = _plain(tiny, recipe, sparsifier=sparsifier())
    assert recorder.recorded == 1 and recorder.replayed > 8
    _close(model, expected)
    assert [change[0] for change in history.changes] == [change[0] for change in plain.changes]
    if kind in ("set", "gradual"):
        assert history.masks is not None and plain.masks is not None
        assert all(torch.equal(history.masks[name], mask) for name, mask in plain.masks.items())


@pytest.mark.parametrize(("recorder", "reason"), [
    (FakeRecorder(fails=True), "cannot be recorded"),
    (FakeRecorder(skips_work=True), "different results"),
])  # fmt: skip
def test_a_step_that_cannot_be_replayed_runs_uncaptured(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch, recorder: FakeRecorder, reason: str
) -> None:
    with pytest.warns(UserWarning, match=reason):
        model, _ = _trained(tiny, RECIPE, monkeypatch, recorder)
    assert recorder.replayed <= 1
    _close(model, _plain(tiny, RECIPE)[0])


def test_a_recording_that_reads_a_stale_batch_is_rejected(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captured_step._RecordedStep, "replay", lambda self, inputs: self._replay())
    monkeypatch.setattr(
        captured_step, "_clones", lambda inputs: [torch.zeros_like(tensor) for tensor in inputs]
    )  # fmt: skip
    with pytest.warns(UserWarning, match="different results"):
        model, _ = _trained(tiny, RECIPE, monkeypatch, FakeRecorder())
    _close(model, _plain(tiny, RECIPE)[0])


def test_which_steps_are_captured() -> None:
    assert should_capture(CUDA, RECIPE)
    assert not should_capture(torch.device("cpu"), RECIPE)
    assert not should_capture(CUDA, attrs.evolve(RECIPE, schedule="one-cycle"))


@attrs.define
class InterruptedGraph:
    """A graph whose recording was interrupted by a synchronisation."""

    def capture_begin(self, pool: object) -> None:
        pass

    def capture_end(self) -> None:
        raise RuntimeError("operation failed due to a previous error during capture")


def test_nothing_is_recorded_after_an_interrupted_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    released: list[object] = []
    fakes = {
        "CUDAGraph": InterruptedGraph, "Stream": object, "stream": lambda stream: contextlib.nullcontext(),
        "graph_pool_handle": lambda: (0, 7), "current_device": lambda: 3, "synchronize": lambda: None,
        "empty_cache": lambda: None,
    }  # fmt: skip
    for name, stand_in in fakes.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    for name in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
        monkeypatch.setattr(torch._C, name, lambda *args: released.append(args), raising=False)
    monkeypatch.setattr(cuda_graphs.CudaGraphRecorder, "_capture_broken", False)
    monkeypatch.setattr(cuda_graphs, "_capture_stream", lambda: None)
    recorder = cuda_graphs.CudaGraphRecorder(torch.optim.Adam([nn.Parameter(torch.zeros(1))]))

    def synchronise() -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    step = captured_step.CapturedStep(
        lambda x: synchronise() if not interrupted else None,
        batch=4, mutated=list, reseed=lambda: interrupted.append(True), recorder=recorder,
    )  # fmt: skip
    interrupted: list[bool] = []
    step._warm_up_steps = WARM_UP_STEPS
    with pytest.warns(UserWarning, match=r"cannot be recorded \(operation not permitted"):
        step(torch.zeros(4))
    assert released == [(3, (0, 7)), (3, (0, 7))]
    with pytest.raises(RuntimeError, match="was interrupted"):
        recorder.record(lambda: None)
    assert gc.isenabled()


class CapturedGraph:
    """A graph that notes whether its optimiser could be captured."""

    def capture_begin(self, pool: object) -> None:
        pass

    def capture_end(self) -> None:
        pass

    def replay(self) -> None:
        pass


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
def test_a_state_that_was_loaded_can_be_recorded(monkeypatch: pytest.MonkeyPatch, optimizer: Any) -> None:
    """Loading a state replaces the parameter groups, whose flag torch reads when a step is captured."""
    fakes = {
        "CUDAGraph": CapturedGraph, "stream": lambda stream: contextlib.nullcontext(),
        "graph_pool_handle": lambda: (0, 7), "synchronize": lambda: None, "empty_cache": lambda: None,
    }  # fmt: skip
    for name, stand_in in fakes.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(cuda_graphs.CudaGraphRecorder, "_capture_broken", False)
    monkeypatch.setattr(cuda_graphs, "_capture_stream", lambda: None)
    optimiser = optimizer([nn.Parameter(torch.zeros(1))])
    recorder = cuda_graphs.CudaGraphRecorder(optimiser)
    optimiser.load_state_dict(optimiser.state_dict())
    flags: list[bool] = []
    recorder.record(lambda: flags.extend(group["capturable"] for group in optimiser.param_groups))
    assert flags == [True]
    assert not optimiser.param_groups[0]["capturable"]


def test_recordings_of_replaced_tensors_are_dropped() -> None:
    recorder = FakeRecorder()
    step = captured_step.CapturedStep(
        lambda x: None, batch=4, mutated=lambda: [torch.zeros(1)], reseed=lambda: None, recorder=recorder
    )
    step._recorded_steps[(torch.Size([4]),)] = captured_step._RecordedStep(lambda x: None, [torch.zeros(4)], recorder)
    step._warm_up_steps = WARM_UP_STEPS
    step(torch.zeros(4))
    assert recorder.recorded == 1
    step.forget()
    with pytest.warns(UserWarning, match="gives different results"):
        step(torch.zeros(4))
    assert recorder.recorded == 2


def test_a_failed_recording_is_freed_before_the_step(tiny: Dataset) -> None:
    """Both together may not fit into the GPU's memory."""
    created: list[weakref.ref[Tensor]] = []

    class Full(FakeRecorder):
        def record(self, work: Callable[[], None]) -> Callable[[], None]:
            tensor = torch.zeros(1)
            created.append(weakref.ref(tensor))
            raise torch.OutOfMemoryError("CUDA out of memory")

    alive: list[bool] = []
    step = captured_step.CapturedStep(
        lambda x: alive.extend(ref() is not None for ref in created),
        batch=4, mutated=list, reseed=lambda: None, recorder=Full(),
    )  # fmt: skip
    with pytest.warns(UserWarning, match="out of memory"):
        for _ in range(WARM_UP_STEPS + 1):
            step(torch.zeros(4))
    assert alive == [False]


def test_a_finished_training_is_freed(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, without the garbage collector, which does not run because GPU memory is short."""
    _plain(tiny, RECIPE)  # the first optimiser of a process imports much, and failed imports keep their callers alive
    created: list[weakref.ref[object]] = []

    def remember(cls: type) -> None:
        original_init = cls.__init__

        def recorded_init(self: object, *args: object, **kwargs: object) -> None:
            original_init(self, *args, **kwargs)
            created.append(weakref.ref(self))

        monkeypatch.setattr(cls, "__init__", recorded_init)

    for cls in (TrainingRun, DeviceDataset, OptimiserStep, captured_step.CapturedStep, captured_step._RecordedStep):
        remember(cls)
    with gc_disabled():
        _trained(tiny, RECIPE, monkeypatch, FakeRecorder())
        assert len(created) == 5
        assert [ref() for ref in created] == [None] * 5


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
