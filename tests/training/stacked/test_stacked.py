"""Trainings as one stacked network end as each alone, but for rounding."""

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

#: Six whole batches and a smaller one each epoch, 21 steps.
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
    """A dense network and two that are masked differently, each of its own seed."""
    found = []
    for seed in range(3):
        model = network(seed, name)
        kept = masks(model, seed) if seed else {}
        found.append(TrainingJob(model=model, data=tiny, recipe=recipe, seed=seed, masks=kept, **more))
    return found


def alone(given: list[TrainingJob]) -> list[TrainingHistory]:
    return [train(**each.as_kwargs()) for each in given]


def stacked(given: list[TrainingJob], **more: Any) -> list[Any]:
    assert stacking_obstacle(given, InMemoryChoices(), CPU) is None
    return train_stacked(given, InMemoryChoices(), **more)


def assert_close(ours: list[TrainingJob], theirs: list[TrainingJob], far: float = 1e-5) -> None:
    for one, other in zip(ours, theirs, strict=True):
        expected = other.model.state_dict()
        for name, tensor in one.model.state_dict().items():
            torch.testing.assert_close(tensor, expected[name], rtol=far, atol=far, msg=name)


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


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_stacked_trainings_are_the_single_ones(tiny: Dataset, optimizer: str, layout: str) -> None:
    recipe = attrs.evolve(RECIPE, optimizer=optimizer, lr=0.02 if optimizer == "sgd" else 1e-3)
    ours, theirs = three(tiny, recipe, layout=layout), three(tiny, recipe, layout=layout)
    told: dict[int, list[EpochReport]] = {0: [], 1: [], 2: []}
    ours = [attrs.evolve(each, on_epoch=told[each.seed].append) for each in ours]
    found = stacked(ours)
    assert_histories_close(found, alone(theirs))
    assert_close(ours, theirs, 2e-5)
    assert [history.epochs for history in found] == [tuple(reports) for reports in told.values()]
    assert [history.stack_size for history in found] == [3, 3, 3]
    for each in ours:
        for name, kept in each.masks.items():
            assert not each.model.get_parameter(name)[~kept].any()


@pytest.mark.parametrize("name", ["small-cnn", "lenet-300-100", "resnet20", "lenet5"])
def test_in_double_precision_nothing_but_rounding_is_left(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Float32 hides small mistakes among its own errors, which deep networks make large."""
    real = torch.Tensor.float
    monkeypatch.setattr(torch.Tensor, "float", lambda self: real(self).double())
    monkeypatch.setattr("tickdsl.training.data.augment.Normalise.__call__", lambda self, images: (
        (images.double() - self._mean.double()) * self._scale.double()
    ))  # fmt: skip
    recipe = attrs.evolve(RECIPE, augment=("crop", "flip"), length="1ep")
    if name == "lenet5":
        tiny = datasets.load("synthetic", options={"size": 12, "channels": 1, "train": 40, "test": 20, "classes": 4})

    def given() -> list[TrainingJob]:
        made = [models.create(name, classes=4, shape=tiny.shape, seed=n, options={"width": 0.25}) for n in range(3)]
        return [
            TrainingJob(
                model=model.double(), data=tiny, recipe=recipe, seed=n, masks=masks(model, n) if n else {}
            ) for n, model in enumerate(made)
        ]  # fmt: skip

    ours, theirs = given(), given()
    stacked(ours)
    alone(theirs)
    assert_close(ours, theirs, 1e-9)


def test_weights_are_handed_over_on_the_way(tiny: Dataset) -> None:
    kept: list[dict[str, Tensor]] = [{}, {}, {}]

    def keep(place: int) -> Callable[[Mapping[str, Tensor]], None]:
        return lambda state: kept[place].update({name: tensor.clone() for name, tensor in state.items()})

    given = [attrs.evolve(each, step_callbacks={9: keep(each.seed)}) for each in three(tiny)]
    stacked(given)
    theirs = three(tiny, stop=9)
    alone(theirs)
    for place, each in enumerate(theirs):
        for name, tensor in each.model.state_dict().items():
            torch.testing.assert_close(kept[place][name], tensor, rtol=1e-5, atol=1e-5)


class Stop(Exception):
    """What a caller raises to leave a training."""


def leaving(given: list[TrainingJob], steps: int) -> Callable[[], None]:
    """Leaves after so many steps, with checkpoints kept."""
    calls = iter(range(1000))

    def before_step() -> None:
        if next(calls) == steps:
            for each in given:
                assert each.checkpoint is not None
                each.checkpoint.save_now()
            raise Stop

    return before_step


def with_checkpoints(given: list[TrainingJob], folder: Path) -> list[TrainingJob]:
    return [attrs.evolve(each, checkpoint=Checkpointer(folder / str(each.seed), 0)) for each in given]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("left", [0, 1, 5, 7, 20])
def test_left_and_continued_together(tiny: Dataset, tmp_path: Path, optimizer: str, left: int) -> None:
    recipe = attrs.evolve(RECIPE, optimizer=optimizer, lr=0.01 if optimizer == "sgd" else 1e-3)
    cut, again = (with_checkpoints(three(tiny, recipe), tmp_path) for _ in range(2))
    with pytest.raises(Stop):
        stacked(cut, before_step=leaving(cut, left))
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    theirs = three(tiny, recipe)
    assert_histories_close(stacked(again, before_step=count), alone(theirs))
    assert steps == STEPS - left
    assert_close(again, theirs, 5e-5)


def test_checkpoints_of_stacks_and_of_single_trainings_are_alike(tiny: Dataset, tmp_path: Path) -> None:
    first, second, ours = (with_checkpoints(three(tiny), tmp_path) for _ in range(3))
    with pytest.raises(Stop):
        stacked(first, before_step=leaving(first, 6))
    for each in second:  # each goes on alone, for three steps
        with pytest.raises(Stop):
            train(**each.as_kwargs(), before_step=leaving([each], 3))
    theirs = three(tiny)
    assert_histories_close(stacked(ours), alone(theirs))  # and from there on together
    assert_close(ours, theirs, 5e-5)


def test_those_that_stand_elsewhere_wait(tiny: Dataset, tmp_path: Path) -> None:
    first, ours = (with_checkpoints(three(tiny), tmp_path) for _ in range(2))
    for each, steps in zip(first, (5, 8, 5), strict=True):
        with pytest.raises(Stop):
            train(**each.as_kwargs(), before_step=leaving([each], steps))
    found = stacked(ours)
    theirs = three(tiny)
    expected = alone(theirs)
    assert found[1] is None
    assert_histories_close([found[0], found[2]], [expected[0], expected[2]])
    found = stacked([ours[1], three(tiny)[0]])
    assert found[1] is None, "it stands at the first step"
    assert_histories_close(found[:1], expected[1:2])
    assert_close(ours, theirs, 5e-5)


def test_who_diverges_fails_alone(tiny: Dataset) -> None:
    ours, theirs = three(tiny), three(tiny)
    with torch.no_grad():
        for parameter in ours[1].model.parameters():
            parameter.fill_(1e30)
    found = train_stacked(ours, InMemoryChoices())
    assert isinstance(found[1], TickdslError)
    assert "diverged" in found[1].message and "epoch 1" in found[1].message
    expected = alone(theirs)
    assert_histories_close([found[0], found[2]], [expected[0], expected[2]])
    assert_close([ours[0], ours[2]], [theirs[0], theirs[2]])


def test_captured_steps_of_a_stack(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on CUDA, with a recorder that stands in for it."""
    replays: list[int] = []

    class Standing:
        def warm_up(self, work: Callable[[], None]) -> None:
            work()

        def record(self, work: Callable[[], None]) -> Callable[[], None]:
            return lambda: (replays.append(1), work())[1]

    ours, theirs = three(tiny), three(tiny)
    with monkeypatch.context() as patch:
        patch.setattr(
            optimiser_step, "should_capture", lambda device, recipe: should_capture(torch.device("cuda"), recipe)
        )
        patch.setattr(optimiser_step, "CudaGraphRecorder", lambda optimizer: Standing())
        train_stacked(ours, InMemoryChoices())
    assert len(replays) == 3 * 6 - 3  # the whole batches, but for three to warm up
    alone(theirs)
    assert_close(ours, theirs, 1e-4)  # the rate is rounded to float32 on its way into a tensor


# -- which cannot


class Sum(nn.Module):
    """Reads a number out of its pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 4)

    def forward(self, pictures: Tensor) -> Tensor:
        scores: Tensor = self.linear(pictures.flatten(1))
        return scores if float(scores.sum()) > 0 else -scores


class Vote(Sum):
    """Reads a number only where it is tested."""

    def forward(self, pictures: Tensor) -> Tensor:
        scores: Tensor = self.linear(pictures.flatten(1))
        return scores if self.training else super().forward(pictures)


class Apart(nn.Module):
    """Keeps what tells it from its like outside its parameters."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.linear, self.factor = nn.Linear(64, 4), factor

    def forward(self, pictures: Tensor) -> Tensor:
        scores: Tensor = self.linear(pictures.flatten(1)) * self.factor
        return scores


def test_what_cannot_be_stacked_says_why(tiny: Dataset) -> None:
    def reason(*given: TrainingJob) -> str | None:
        return stacking_obstacle(given, InMemoryChoices(), CPU)

    def of(model: nn.Module, **more: Any) -> TrainingJob:
        return TrainingJob(**{"model": model, "data": tiny, "recipe": RECIPE, "seed": 1, **more})

    fits = of(network(1))
    dropping = [of(nn.Sequential(nn.Dropout(0.1), network(n))) for n in (1, 2)]
    other = datasets.load("synthetic", options={"size": 8, "channels": 1, "train": 90, "test": 40, "classes": 4})
    compiling = attrs.evolve(RECIPE, compile="on")
    distillation = Distillation(network(3), 2.0, 0.5)
    for expected, given in (
        ("recipes differ", (fits, of(network(2), recipe=attrs.evolve(RECIPE, lr=0.3)))),
        ("data differ", (fits, of(network(2), data=other))),
        ("different steps", (fits, of(network(2), stop=4))),
        ("layouts differ", (fits, of(network(2), layout="contiguous"))),
        ("differ in shape", (fits, of(network(2, width=0.25)))),
        ("learn from a teacher", (fits, of(network(2), distillation=distillation))),
        ("are compiled by torch", (of(network(1), recipe=compiling), of(network(2), recipe=compiling))),
        ("are compiled by torch", (of(network(1), compile=True), of(network(2), compile=True))),
        ("cannot stack their networks: vmap: called random", dropping),
        ("cannot stack their networks: vmap: It looks like you're calling .item()", (of(Sum()), of(Sum()))),
        ("cannot stack their networks: vmap: It looks like you're calling .item()", (of(Vote()), of(Vote()))),
        ("compute different results", (of(Apart(1.0)), of(Apart(2.0)))),
    ):
        assert expected in (reason(*given) or ""), expected
    assert reason(fits, of(network(2))) is None


class Always:
    """Finds everything faster."""

    def settle(self, question: str, measure: Callable[[], Any]) -> Any:
        return True


def test_sparse_layers_are_not_stacked(tiny: Dataset) -> None:
    if not torch.backends.mkl.is_available():
        pytest.skip("sparse products need MKL")
    given = []
    for seed in (1, 2):
        model = models.create("lenet-300-100", classes=4, shape=(1, 8, 8), seed=seed)
        mask = torch.rand(model.get_parameter("fc1.weight").shape, generator=torch.Generator().manual_seed(seed)) < 0.05
        given.append(TrainingJob(model=model, data=tiny, recipe=RECIPE, seed=seed, masks={"fc1.weight": mask}))
    assert stacking_obstacle(given, Always(), CPU) == "some of their layers are trained as sparse matrices"


@pytest.mark.parametrize("training", [True, False])
def test_batch_norms_side_by_side_take_the_types_of_autocast(training: bool) -> None:
    """A GPU's convolutions give them bf16 under autocast; a CPU's, under vmap, do not."""
    norms = [nn.Sequential(nn.BatchNorm2d(3)).train(training) for _ in range(2)]
    for norm in norms:
        nn.init.uniform_(norm[0].weight)
    pictures = torch.randn(4, 2, 3, 5, 5)
    expected = [copy.deepcopy(norm)(pictures[:, place]) for place, norm in enumerate(norms)]
    whole = StackedNetwork(norms)
    scores = whole(pictures.bfloat16())
    assert scores.dtype == torch.bfloat16
    scores.float().sum().backward()
    for place, one in enumerate(expected):
        torch.testing.assert_close(scores[:, place].float(), one, rtol=0.02, atol=0.02)
    assert norms[0][0].running_mean.dtype == torch.float32


def test_a_stack_whose_steps_fail_does_not_pay(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*given: object, **named: object) -> None:
        raise RuntimeError("no kernel for that")

    monkeypatch.setattr("tickdsl.training.step.optimiser_step.OptimiserStep.take", fails)
    assert stacking_speedup(three(tiny), CPU) == 0


def test_asking_changes_no_network(tiny: Dataset) -> None:
    given = three(tiny)
    before = [{name: tensor.clone() for name, tensor in each.model.state_dict().items()} for each in given]
    for each, state in zip(given, before, strict=True):
        for name, kept in each.masks.items():
            state[name] *= kept
    assert stacking_obstacle(given, InMemoryChoices(), CPU) is None
    for each, state in zip(given, before, strict=True):
        assert all(torch.equal(state[name], tensor) for name, tensor in each.model.state_dict().items())


def test_measuring_changes_no_network(tiny: Dataset) -> None:
    given = three(tiny)
    before = [{name: tensor.clone() for name, tensor in each.model.state_dict().items()} for each in given[:1]]
    assert 0.05 < stacking_speedup(given, CPU) < 20
    for each, state in zip(given, before, strict=False):
        assert all(torch.equal(state[name], tensor) for name, tensor in each.model.state_dict().items())


def test_a_network_too_large_to_be_stacked_does_not_pay(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def short(courses: object) -> None:
        raise torch.OutOfMemoryError("of memory")

    monkeypatch.setattr("tickdsl.training.stacked.eligibility.StackedStep", short)
    assert stacking_speedup(three(tiny), CPU) == 0.0


def test_under_autocast(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "has_fast_bf16", lambda device: True)
    recipe = attrs.evolve(RECIPE, precision="bf16", length="4it")
    ours, theirs = three(tiny, recipe), three(tiny, recipe)
    stacked(ours)
    alone(theirs)
    assert_close(ours, theirs, 2e-2)
