"""Stacked trainings end as each training alone, up to rounding."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor, nn

from tickdsl.errors import TickdslError
from tickdsl.training import devices, models
from tickdsl.training.checkpoints import Checkpointer
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.history import EpochReport, TrainingHistory
from tickdsl.training.job import TrainingJob
from tickdsl.training.loop import train
from tickdsl.training.measured_choices import InMemoryChoices
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.stacked.eligibility import stacking_obstacle, stacking_speedup
from tickdsl.training.stacked.network import StackedNetwork
from tickdsl.training.stacked.training import train_stacked
from tickdsl.training.step import optimiser_step
from tickdsl.training.step.captured_step import should_capture
from tickdsl.training.step.distillation import Distillation

#: Six full batches and a smaller one per epoch: 21 steps.
RECIPE = Recipe(
    length="3ep", lr=0.02, batch=16, decay=5e-4, schedule="cosine", augment=("crop", "flip", "rotation"),
    label_smoothing=0.1,
)  # fmt: skip
STEPS = 21
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tiny() -> Dataset:
    return datasets.load("synthetic", options={"size": 8, "channels": 1, "train": 100, "test": 40, "classes": 4})


def network(seed: int, name: str = "small-cnn", width: float = 0.5) -> nn.Module:
    return models.create(name, classes=4, shape=(1, 8, 8), seed=seed, options={"width": width})


def masks(model: nn.Module, seed: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {name: torch.rand(p.shape, generator=draw) < 0.6 for name, p in model.named_parameters() if p.dim() > 1}


def three(tiny: Dataset, recipe: Recipe = RECIPE, name: str = "small-cnn", **more: Any) -> list[TrainingJob]:
    """Jobs of a dense network and of two with different masks, each with its own seed."""
    results = []
    for seed in range(3):
        model = network(seed, name)
        kept = masks(model, seed) if seed else {}
        results.append(TrainingJob(model=model, data=tiny, recipe=recipe, seed=seed, masks=kept, **more))
    return results


def alone(jobs: list[TrainingJob]) -> list[TrainingHistory]:
    return [train(**job.as_kwargs()) for job in jobs]


def stacked(jobs: list[TrainingJob], **more: Any) -> list[Any]:
    assert stacking_obstacle(jobs, InMemoryChoices(), CPU) is None
    return train_stacked(jobs, InMemoryChoices(), **more)


def assert_close(ours: list[TrainingJob], theirs: list[TrainingJob], tolerance: float = 1e-5) -> None:
    for one, other in zip(ours, theirs, strict=True):
        expected = other.model.state_dict()
        for name, tensor in one.model.state_dict().items():
            torch.testing.assert_close(tensor, expected[name], rtol=tolerance, atol=tolerance, msg=name)


def assert_histories_close(ours: list[Any], theirs: list[TrainingHistory]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert isinstance(one, TrainingHistory)
        assert (one.start, one.stop, one.layout) == (other.start, other.stop, other.layout)
        for epoch, expected in zip(one.epochs, other.epochs, strict=True):
            assert epoch.train_loss == pytest.approx(expected.train_loss, rel=1e-4)
            assert epoch.test_loss == pytest.approx(expected.test_loss, rel=1e-4)
            assert abs(epoch.test_accuracy - expected.test_accuracy) <= 1 / 40
            assert (epoch.epoch, epoch.epochs, epoch.step, epoch.lr) == (
                expected.epoch, expected.epochs, expected.step, expected.lr,
            )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_stacked_trainings_equal_single_ones(tiny: Dataset, optimizer: str, layout: str) -> None:
    recipe = attrs.evolve(RECIPE, optimizer=optimizer, lr=0.02 if optimizer == "sgd" else 1e-3)
    ours, theirs = three(tiny, recipe, layout=layout), three(tiny, recipe, layout=layout)
    reports: dict[int, list[EpochReport]] = {0: [], 1: [], 2: []}
    ours = [attrs.evolve(job, on_epoch=reports[job.seed].append) for job in ours]
    results = stacked(ours)
    assert_histories_close(results, alone(theirs))
    assert_close(ours, theirs, 2e-5)
    assert [history.epochs for history in results] == [tuple(of_training) for of_training in reports.values()]
    assert [history.stack_size for history in results] == [3, 3, 3]
    for job in ours:
        for name, kept in job.masks.items():
            assert not job.model.get_parameter(name)[~kept].any()


def test_stacked_trainings_are_measured_on_validation_and_tested_at_the_end() -> None:
    options = {"size": 8, "channels": 1, "train": 100, "test": 40, "classes": 4, "validation": 0.2}
    data = datasets.load("synthetic", options=options)
    recipe = attrs.evolve(RECIPE, length="2ep")
    ours, theirs = three(data, recipe), three(data, recipe)
    for one, other in zip(stacked(ours), alone(theirs), strict=True):
        assert one.figures["loss"] == pytest.approx(other.figures["loss"], rel=1e-4)
        assert one.scores is not None and len(one.scores) == 40
        assert float(one.scores.float().mean()) == pytest.approx(one.figures["accuracy"])
        for epoch, expected in zip(one.epochs, other.epochs, strict=True):
            assert epoch.validation["loss"] == pytest.approx(expected.validation["loss"], rel=1e-4)
            assert epoch.test_loss is None


@pytest.mark.parametrize("name", ["small-cnn", "lenet-300-100", "resnet20", "lenet5"])
def test_in_double_precision_results_agree_closely(tiny: Dataset, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """In float32, rounding errors grow in deep networks and hide small mistakes."""
    real = torch.Tensor.float
    monkeypatch.setattr(torch.Tensor, "float", lambda self: real(self).double())
    monkeypatch.setattr("tickdsl.training.data.preprocess.Normalise.__call__", lambda self, images: (
        (images.double() - self._mean.double()) * self._scale.double()
    ))  # fmt: skip
    recipe = attrs.evolve(RECIPE, augment=("crop", "flip"), length="1ep")
    if name == "lenet5":
        tiny = datasets.load("synthetic", options={"size": 12, "channels": 1, "train": 40, "test": 20, "classes": 4})

    def jobs() -> list[TrainingJob]:
        networks = [models.create(name, classes=4, shape=tiny.shape, seed=n, options={"width": 0.25}) for n in range(3)]
        return [
            TrainingJob(
                model=model.double(), data=tiny, recipe=recipe, seed=n, masks=masks(model, n) if n else {}
            ) for n, model in enumerate(networks)
        ]  # fmt: skip

    ours, theirs = jobs(), jobs()
    stacked(ours)
    alone(theirs)
    assert_close(ours, theirs, 1e-9)


def test_step_callbacks_get_the_weights(tiny: Dataset) -> None:
    kept: list[dict[str, Tensor]] = [{}, {}, {}]

    def keep(index: int) -> Callable[[Mapping[str, Tensor]], None]:
        return lambda state: kept[index].update({name: tensor.clone() for name, tensor in state.items()})

    jobs = [attrs.evolve(job, step_callbacks={9: keep(job.seed)}) for job in three(tiny)]
    stacked(jobs)
    theirs = three(tiny, stop=9)
    alone(theirs)
    for index, job in enumerate(theirs):
        for name, tensor in job.model.state_dict().items():
            torch.testing.assert_close(kept[index][name], tensor, rtol=1e-5, atol=1e-5)


class Stop(Exception):
    """Raised by `before_step` to interrupt a training."""


def interrupting(jobs: list[TrainingJob], steps: int) -> Callable[[], None]:
    """A `before_step` that saves checkpoints and interrupts after `steps` steps."""
    calls = iter(range(1000))

    def before_step() -> None:
        if next(calls) == steps:
            for job in jobs:
                assert job.checkpoint is not None
                job.checkpoint.save_now()
            raise Stop

    return before_step


def with_checkpoints(jobs: list[TrainingJob], folder: Path) -> list[TrainingJob]:
    return [attrs.evolve(job, checkpoint=Checkpointer(folder / str(job.seed), 0)) for job in jobs]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("interrupt_at", [0, 1, 5, 7, 20])
def test_interrupted_and_resumed_together(tiny: Dataset, tmp_path: Path, optimizer: str, interrupt_at: int) -> None:
    recipe = attrs.evolve(RECIPE, optimizer=optimizer, lr=0.01 if optimizer == "sgd" else 1e-3)
    cut, again = (with_checkpoints(three(tiny, recipe), tmp_path) for _ in range(2))
    with pytest.raises(Stop):
        stacked(cut, before_step=interrupting(cut, interrupt_at))
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    theirs = three(tiny, recipe)
    assert_histories_close(stacked(again, before_step=count), alone(theirs))
    assert steps == STEPS - interrupt_at
    assert_close(again, theirs, 5e-5)


def test_checkpoints_of_stacked_and_single_trainings_are_interchangeable(tiny: Dataset, tmp_path: Path) -> None:
    first, second, ours = (with_checkpoints(three(tiny), tmp_path) for _ in range(3))
    with pytest.raises(Stop):
        stacked(first, before_step=interrupting(first, 6))
    for job in second:  # each resumes alone, for three steps
        with pytest.raises(Stop):
            train(**job.as_kwargs(), before_step=interrupting([job], 3))
    theirs = three(tiny)
    assert_histories_close(stacked(ours), alone(theirs))  # then all resume together
    assert_close(ours, theirs, 5e-5)


def test_trainings_at_other_steps_are_not_started(tiny: Dataset, tmp_path: Path) -> None:
    first, ours = (with_checkpoints(three(tiny), tmp_path) for _ in range(2))
    for job, steps in zip(first, (5, 8, 5), strict=True):
        with pytest.raises(Stop):
            train(**job.as_kwargs(), before_step=interrupting([job], steps))
    results = stacked(ours)
    theirs = three(tiny)
    expected = alone(theirs)
    assert results[1] is None
    assert_histories_close([results[0], results[2]], [expected[0], expected[2]])
    results = stacked([ours[1], three(tiny)[0]])
    assert results[1] is None, "it is at the first step"
    assert_histories_close(results[:1], expected[1:2])
    assert_close(ours, theirs, 5e-5)


def test_a_diverging_training_fails_alone(tiny: Dataset) -> None:
    ours, theirs = three(tiny), three(tiny)
    with torch.no_grad():
        for parameter in ours[1].model.parameters():
            parameter.fill_(1e30)
    results = train_stacked(ours, InMemoryChoices())
    assert isinstance(results[1], TickdslError)
    assert "diverged" in results[1].message and "epoch 1" in results[1].message
    expected = alone(theirs)
    assert_histories_close([results[0], results[2]], [expected[0], expected[2]])
    assert_close([ours[0], ours[2]], [theirs[0], theirs[2]])


def test_captured_steps_of_a_stack(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on CUDA, with a fake recorder."""
    replays: list[int] = []

    class FakeRecorder:
        def warm_up(self, work: Callable[[], None]) -> None:
            work()

        def record(self, work: Callable[[], None]) -> Callable[[], None]:
            return lambda: (replays.append(1), work())[1]

    ours, theirs = three(tiny), three(tiny)
    with monkeypatch.context() as patch:
        patch.setattr(
            optimiser_step, "should_capture", lambda device, recipe: should_capture(torch.device("cuda"), recipe)
        )
        patch.setattr(optimiser_step, "CudaGraphRecorder", lambda optimizer: FakeRecorder())
        train_stacked(ours, InMemoryChoices())
    assert len(replays) == 3 * 6 - 3  # all full batches except three to warm up
    alone(theirs)
    assert_close(ours, theirs, 1e-4)  # the learning rate is rounded to float32 in its tensor


# -- Trainings that cannot be stacked


class BranchOnSum(nn.Module):
    """Branches on a number computed from its images."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 4)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.linear(images.flatten(1))
        return scores if float(scores.sum()) > 0 else -scores


class BranchInEval(BranchOnSum):
    """Branches on a number only in eval mode."""

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.linear(images.flatten(1))
        return scores if self.training else super().forward(images)


class ScaledLinear(nn.Module):
    """Has state that differs between members but is not a parameter."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.linear, self.factor = nn.Linear(64, 4), factor

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.linear(images.flatten(1)) * self.factor
        return scores


def test_reasons_against_stacking(tiny: Dataset) -> None:
    def reason(*jobs: TrainingJob) -> str | None:
        return stacking_obstacle(jobs, InMemoryChoices(), CPU)

    def job(model: nn.Module, **more: Any) -> TrainingJob:
        return TrainingJob(**{"model": model, "data": tiny, "recipe": RECIPE, "seed": 1, **more})

    fits = job(network(1))
    dropping = [job(nn.Sequential(nn.Dropout(0.1), network(n))) for n in (1, 2)]
    other = datasets.load("synthetic", options={"size": 8, "channels": 1, "train": 90, "test": 40, "classes": 4})
    compiling = attrs.evolve(RECIPE, compile="on")
    distillation = Distillation(network(3), 2.0, 0.5)
    for expected, jobs in (
        ("recipes differ", (fits, job(network(2), recipe=attrs.evolve(RECIPE, lr=0.3)))),
        ("data differ", (fits, job(network(2), data=other))),
        ("different steps", (fits, job(network(2), stop=4))),
        ("layouts differ", (fits, job(network(2), layout="contiguous"))),
        ("differ in shape", (fits, job(network(2, width=0.25)))),
        ("learn from a teacher", (fits, job(network(2), distillation=distillation))),
        ("are compiled by torch", (job(network(1), recipe=compiling), job(network(2), recipe=compiling))),
        ("are compiled by torch", (job(network(1), compile=True), job(network(2), compile=True))),
        ("cannot stack their networks: vmap: called random", dropping),
        (
            "cannot stack their networks: vmap: It looks like you're calling .item()",
            (job(BranchOnSum()), job(BranchOnSum())),
        ),
        (
            "cannot stack their networks: vmap: It looks like you're calling .item()",
            (job(BranchInEval()), job(BranchInEval())),
        ),
        ("compute different results", (job(ScaledLinear(1.0)), job(ScaledLinear(2.0)))),
    ):
        assert expected in (reason(*jobs) or ""), expected
    assert reason(fits, job(network(2))) is None


class Always:
    """Answers every question with yes."""

    def settle(self, question: str, measure: Callable[[], Any]) -> Any:
        return True


def test_sparse_layers_are_not_stacked(tiny: Dataset) -> None:
    if not torch.backends.mkl.is_available():
        pytest.skip("sparse products need MKL")
    jobs = []
    for seed in (1, 2):
        model = models.create("lenet-300-100", classes=4, shape=(1, 8, 8), seed=seed)
        mask = torch.rand(model.get_parameter("fc1.weight").shape, generator=torch.Generator().manual_seed(seed)) < 0.05
        jobs.append(TrainingJob(model=model, data=tiny, recipe=RECIPE, seed=seed, masks={"fc1.weight": mask}))
    assert stacking_obstacle(jobs, Always(), CPU) == "some of their layers are trained as sparse matrices"


@pytest.mark.parametrize("training", [True, False])
def test_stacked_batch_norms_accept_autocast_dtypes(training: bool) -> None:
    """Under autocast, a GPU's convolutions pass bf16 to them; a CPU's under vmap do not."""
    norms = [nn.Sequential(nn.BatchNorm2d(3)).train(training) for _ in range(2)]
    for norm in norms:
        nn.init.uniform_(norm[0].weight)
    images = torch.randn(4, 2, 3, 5, 5)
    expected = [copy.deepcopy(norm)(images[:, index]) for index, norm in enumerate(norms)]
    whole = StackedNetwork(norms)
    scores = whole(images.bfloat16())
    assert scores.dtype == torch.bfloat16
    scores.float().sum().backward()
    for index, one in enumerate(expected):
        torch.testing.assert_close(scores[:, index].float(), one, rtol=0.02, atol=0.02)
    assert norms[0][0].running_mean.dtype == torch.float32


def test_a_stack_whose_steps_fail_has_no_speedup(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("no kernel for that")

    monkeypatch.setattr("tickdsl.training.step.optimiser_step.OptimiserStep.take", fail)
    assert stacking_speedup(three(tiny), CPU) == 0


def test_stacking_obstacle_changes_no_network(tiny: Dataset) -> None:
    jobs = three(tiny)
    before = [{name: tensor.clone() for name, tensor in job.model.state_dict().items()} for job in jobs]
    for job, state in zip(jobs, before, strict=True):
        for name, kept in job.masks.items():
            state[name] *= kept
    assert stacking_obstacle(jobs, InMemoryChoices(), CPU) is None
    for job, state in zip(jobs, before, strict=True):
        assert all(torch.equal(state[name], tensor) for name, tensor in job.model.state_dict().items())


def test_stacking_speedup_changes_no_network(tiny: Dataset) -> None:
    jobs = three(tiny)
    before = [{name: tensor.clone() for name, tensor in job.model.state_dict().items()} for job in jobs[:1]]
    assert 0.05 < stacking_speedup(jobs, CPU) < 20
    for job, state in zip(jobs, before, strict=False):
        assert all(torch.equal(state[name], tensor) for name, tensor in job.model.state_dict().items())


def test_a_stack_that_runs_out_of_memory_has_no_speedup(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out_of_memory(runs: object) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr("tickdsl.training.stacked.eligibility.StackedStep", run_out_of_memory)
    assert stacking_speedup(three(tiny), CPU) == 0.0


def test_under_autocast(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "has_fast_bf16", lambda device: True)
    recipe = attrs.evolve(RECIPE, precision="bf16", length="4it")
    ours, theirs = three(tiny, recipe), three(tiny, recipe)
    stacked(ours)
    alone(theirs)
    assert_close(ours, theirs, 2e-2)
