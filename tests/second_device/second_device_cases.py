"""Tests on the fake second device; `test_second_device.py` runs them in a separate process."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import fake_device
import numpy as np
import pytest
import torch
from device_plans import PLANS
from named_data import Reader
from named_data import arrays as named_arrays
from plugin_task_cases import PLUGIN_CASES
from regression_data import spots
from task_cases import TASK_CASES, TaskCase
from torch import nn
from vision_data import CASES, VisionCase

import tickdsl
from tickdsl.cli import main
from tickdsl.engine import launch, prepare_study
from tickdsl.metrics import training_metrics as measures
from tickdsl.training import loop, models
from tickdsl.training.checkpoints import Checkpointer
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.history import TrainingHistory
from tickdsl.training.job import TrainingJob
from tickdsl.training.measured_choices import InMemoryChoices
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.sparsifiers.evolving import Evolution
from tickdsl.training.sparsifiers.gradual import GradualPruning
from tickdsl.training.sparsifiers.protocol import Sparsifier
from tickdsl.training.stacked.training import train_stacked
from tickdsl.training.step.distillation import Distillation

RECIPE = Recipe(length="3ep", lr=0.01, batch=16, decay=5e-4, schedule="cosine")
PER_EPOCH = 7


@pytest.fixture(autouse=True)
def second() -> Iterator[None]:
    fake_device.SYNC_COUNTS.clear()
    with fake_device.fake_device():
        yield


@pytest.fixture(scope="module")
def tiny() -> Dataset:
    return datasets.load("synthetic", options={"size": 8, "channels": 1, "train": 100, "test": 40, "classes": 4})


def make_job(tiny: Dataset, recipe: Recipe = RECIPE, seed: int = 0, **more: Any) -> TrainingJob:
    model = models.create("small-cnn", classes=4, shape=(1, 8, 8), seed=seed)
    masks = {name: p.detach() > 0 for name, p in model.named_parameters() if p.dim() > 1}
    return TrainingJob(model=model, data=tiny, recipe=recipe, seed=seed, masks=masks, layout="contiguous", **more)


def make_distillation() -> Distillation:
    # No convolutions, since their memory layout depends on the device.
    return Distillation(models.create("lenet-300-100", classes=4, shape=(1, 8, 8), seed=5), 4.0, 0.7, until=10)


def train(job: TrainingJob, device: torch.device | str = fake_device.DEVICE, **more: Any) -> TrainingHistory:
    return loop.train(**job.as_kwargs(), device=device, **more)


def train_until_checkpoint(job: TrainingJob, device: torch.device | str = fake_device.DEVICE, **more: Any) -> None:
    """Train for 10 steps, save a checkpoint and stop."""
    steps = iter(range(100))

    def before_step() -> None:
        if next(steps) == 10:
            job.checkpoint.save_now()
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(job, device, before_step=before_step, **more)


def assert_equal(on_fake: TrainingJob, on_cpu: TrainingJob) -> None:
    expected = on_cpu.model.state_dict()
    for name, tensor in on_fake.model.state_dict().items():
        assert isinstance(tensor, fake_device.FakeDeviceTensor), name
        assert torch.equal(tensor.cpu_tensor, expected[name]), name


def test_devices_do_not_mix() -> None:
    one = torch.ones(2, device=fake_device.DEVICE)
    with pytest.raises(fake_device.MixedDevicesError):
        one + torch.ones(2)
    with pytest.raises(fake_device.MixedDevicesError):
        torch.randperm(3, generator=torch.Generator(), device=fake_device.DEVICE)
    assert (one + one).tolist() == [2.0, 2.0]
    assert fake_device.SYNC_COUNTS == {"_to_copy": 1}


@pytest.mark.parametrize("augment", [(), ("crop", "flip", "rotation")])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("distilled", [False, True])
def test_a_training_gives_the_same_result_and_waits_once_per_epoch(
    tiny: Dataset, optimizer: str, augment: tuple[str, ...], distilled: bool
) -> None:
    recipe = attrs.evolve(RECIPE, optimizer=optimizer, augment=augment)
    more = [{"distillation": make_distillation()} if distilled else {} for _ in range(2)]
    on_cpu, on_fake = make_job(tiny, recipe, **more[0]), make_job(tiny, recipe, **more[1])
    expected = train(on_cpu, "cpu")
    fake_device.SYNC_COUNTS.clear()
    waits: list[int] = []
    assert train(on_fake, before_step=lambda: waits.append(fake_device.SYNC_COUNTS.total())) == expected
    assert_equal(on_fake, on_cpu)
    assert waits == [step // PER_EPOCH for step in range(3 * PER_EPOCH)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.data)
@pytest.mark.parametrize("augment", [(), ("crop", "flip", "rotation")])
def test_masks_tags_and_places_wait_once_per_epoch(case: VisionCase, augment: tuple[str, ...]) -> None:
    recipe = attrs.evolve(RECIPE, augment=augment)
    on_cpu, on_fake = (
        TrainingJob(
            model=case.network(), data=case.dataset(), recipe=recipe, seed=0, layout="contiguous",
            distillation=Distillation(case.network(5), 2.0, 0.5),
        )
        for _ in range(2)
    )  # fmt: skip
    expected = train(on_cpu, "cpu")
    fake_device.SYNC_COUNTS.clear()
    waits: list[int] = []
    found = train(on_fake, before_step=lambda: waits.append(fake_device.SYNC_COUNTS.total()))
    for one, other in zip(found.epochs, expected.epochs, strict=True):
        assert one.figures == pytest.approx(other.figures, rel=1e-4)
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-5)
    steps = case.dataset().train_targets.shape[0] // 16 + 1
    assert waits == [step // steps for step in range(3 * steps)]


@pytest.mark.parametrize("how", ["alone", "distilled", "stacked", "resumed"])
def test_a_regression_on_the_second_device(how: str, tmp_path: Path) -> None:
    def make_jobs() -> list[TrainingJob]:
        more: dict[str, Any] = {}
        if how == "distilled":
            teacher = models.create("lenet-300-100", classes=2, shape=(1, 8, 8), seed=5)
            more = {"distillation": Distillation(teacher, 4.0, 0.5)}
        return [
            TrainingJob(
                model=models.create("lenet-300-100", classes=2, shape=(1, 8, 8), seed=seed),
                data=spots(), recipe=RECIPE, seed=seed, masks={}, layout="contiguous", **more,
            )
            for seed in range(3 if how == "stacked" else 1)
        ]  # fmt: skip

    on_cpu, on_fake = make_jobs(), make_jobs()
    waits: list[int] = []
    before_step = lambda: waits.append(fake_device.SYNC_COUNTS.total())  # noqa: E731
    if how == "stacked":
        expected = train_stacked(on_cpu, InMemoryChoices())
        fake_device.SYNC_COUNTS.clear()
        found = train_stacked(on_fake, InMemoryChoices(), device=fake_device.DEVICE, before_step=before_step)
    else:
        expected = [train(on_cpu[0], "cpu")]
        if how == "resumed":
            train_until_checkpoint(attrs.evolve(make_jobs()[0], checkpoint=Checkpointer(tmp_path)))
            on_fake = [attrs.evolve(on_fake[0], checkpoint=Checkpointer(tmp_path))]
        fake_device.SYNC_COUNTS.clear()
        found = [train(on_fake[0], before_step=before_step)]
    assert found == expected
    for one, other in zip(on_fake, on_cpu, strict=True):
        assert_equal(one, other)
    if how != "resumed":
        assert waits == [step // PER_EPOCH for step in range(3 * PER_EPOCH)]


@pytest.mark.parametrize("how", ["resident", "stream"])
def test_several_inputs_on_the_second_device(how: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "four.npz", **named_arrays(100))  # type: ignore[arg-type]
    options = {"path": str(tmp_path / "four.npz"), "test": 0.2, "inputs": ["image", "meta", "tokens", "mask"]}
    data = datasets.load("arrays", options={**options, "load": how})
    recipe = attrs.evolve(RECIPE, augment=("flip",))

    def job() -> TrainingJob:
        torch.manual_seed(0)
        return TrainingJob(model=Reader(), data=data, recipe=recipe, seed=0, layout="contiguous")

    on_cpu, on_fake = job(), job()
    assert train(on_fake).epochs[-1].test_loss == pytest.approx(train(on_cpu, "cpu").epochs[-1].test_loss)
    assert_equal(on_fake, on_cpu)


SPARSIFIERS: dict[str, Sparsifier] = {
    "RigL": Evolution(0.3, 4, 18),
    "SET": Evolution(0.3, 4, 18, "random"),
    "SNFS": Evolution(0.3, 4, 18, "momentum"),
    "SRigL": Evolution(0.3, 4, 18, fan_in="constant"),
    "gradual": GradualPruning(("conv2.weight", "fc.weight"), {4: [60], 8: [40]}),
}


@pytest.mark.parametrize("sparsifier", SPARSIFIERS.values(), ids=list(SPARSIFIERS))
def test_masks_change_on_the_second_device_as_on_the_cpu(tiny: Dataset, sparsifier: Sparsifier) -> None:
    on_cpu, on_fake = make_job(tiny, sparsifier=sparsifier), make_job(tiny, sparsifier=sparsifier)
    expected = train(on_cpu, "cpu")
    found = train(on_fake)
    assert found.epochs == expected.epochs and found.changes == expected.changes != ()
    assert found.masks and expected.masks and found.masks.keys() == expected.masks.keys()
    for name, mask in found.masks.items():
        assert torch.equal(mask.cpu(), expected.masks[name].cpu()), name
    assert_equal(on_fake, on_cpu)


def test_a_training_resumes_on_the_second_device(tiny: Dataset, tmp_path: Path) -> None:
    on_cpu = make_job(tiny)
    expected = train(on_cpu, "cpu")
    train_until_checkpoint(make_job(tiny, checkpoint=Checkpointer(tmp_path)))
    on_fake = make_job(tiny, checkpoint=Checkpointer(tmp_path))
    assert train(on_fake) == expected
    assert_equal(on_fake, on_cpu)


class AlwaysSparse:
    """Answers every question with yes."""

    def settle(self, question: str, measure: object) -> bool:
        return True


def test_a_training_with_sparse_layers_starts_over_on_the_second_device(tiny: Dataset, tmp_path: Path) -> None:
    def sparse_job(**more: Any) -> TrainingJob:
        model = models.create("lenet-300-100", classes=4, shape=(1, 8, 8), seed=0)
        draw = torch.Generator().manual_seed(0)
        masks = {
            name: torch.rand(p.shape, generator=draw) < 0.05 for name, p in model.named_parameters() if p.dim() > 1
        }
        return TrainingJob(model=model, data=tiny, recipe=RECIPE, seed=0, masks=masks, **more)

    checkpoints = Checkpointer(tmp_path)
    train_until_checkpoint(sparse_job(checkpoint=checkpoints), "cpu", choices=AlwaysSparse())
    assert torch.load(io.BytesIO(checkpoints.path.read_bytes().partition(b"\n")[2]), weights_only=True)["sparse"]
    on_fake = sparse_job(checkpoint=Checkpointer(tmp_path))
    assert train(on_fake) == train(sparse_job())


def test_stacked_trainings_on_the_second_device(tiny: Dataset) -> None:
    on_cpu, on_fake = ([make_job(tiny, seed=seed) for seed in range(3)] for _ in range(2))
    expected = train_stacked(on_cpu, InMemoryChoices())
    fake_device.SYNC_COUNTS.clear()
    waits: list[int] = []
    before_step = lambda: waits.append(fake_device.SYNC_COUNTS.total())  # noqa: E731
    assert train_stacked(on_fake, InMemoryChoices(), device=fake_device.DEVICE, before_step=before_step) == expected
    assert waits == [step // PER_EPOCH for step in range(3 * PER_EPOCH)]
    for one, other in zip(on_fake, on_cpu, strict=True):
        assert_equal(one, other)


def _use_the_fake_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs be on the second device, whatever `--device` says."""
    monkeypatch.setattr(launch, "resolve_devices", lambda text: (fake_device.DEVICE,))
    monkeypatch.setattr(prepare_study, "resolve_device", lambda text: fake_device.DEVICE)


@pytest.mark.parametrize("text", PLANS.values(), ids=list(PLANS))
def test_a_plan_on_the_second_device(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _use_the_fake_device(monkeypatch)
    monkeypatch.setitem(measures.WATTS, fake_device.NAME, 300.0)
    plan = tmp_path / "test.plan"
    plan.write_text(text)
    folders = ["--store", tmp_path / "store", "--out", tmp_path / "runs"]
    code = main([str(word) for word in ("run", plan, *folders, "--jobs", 1, "--no-tensorboard")])
    assert code == 0
    results = [json.loads(path.read_text()) for path in (tmp_path / "store").glob("results/*/*/result.json")]
    assert {result["made"]["device"] for result in results} == {str(fake_device.DEVICE)}


TASKS = {case.name: case for case in (*TASK_CASES, *PLUGIN_CASES)}


@pytest.mark.parametrize("case", TASKS.values(), ids=list(TASKS))
def test_a_plan_of_every_task_on_the_second_device(
    case: TaskCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(measures.WATTS, fake_device.NAME, 300.0)
    plan = tmp_path / "test.plan"
    distilled = "" if "distill" in case.refuses else "distill from dense weight=0.5\n"
    plan.write_text(f"{case.plan}{distilled}compare random-init, dense\nreport loss, latency, memory, barrier\n")
    losses = {}
    for name in ("cpu", "other"):
        if name == "other":
            _use_the_fake_device(monkeypatch)
        folders = ["--store", tmp_path / name, "--out", tmp_path / f"{name} runs"]
        flags = ["--jobs", 1, "--no-tensorboard", "--allow-code"]
        assert main([str(word) for word in ("run", plan, *folders, *flags)]) == 0
        results = [json.loads(path.read_text()) for path in (tmp_path / name).glob("results/*/*/result.json")]
        losses[name] = {result["parts"]["args"].__repr__(): result["metrics"].get("loss") for result in results}
    assert {result["made"]["device"] for result in results} == {str(fake_device.DEVICE)}
    trained = {key: loss for key, loss in losses["cpu"].items() if loss is not None}
    assert trained
    for key, loss in trained.items():
        assert losses["other"][key] == pytest.approx(loss, rel=0.05, abs=0.02)


@pytest.mark.parametrize("arguments", [{"by": "taylor"}, {"unit": "weights"}, {"target": "flops", "rounds": 2}])
def test_a_network_of_ones_own_is_pruned_on_its_device(arguments: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(6, 2))
    inputs = torch.randn(4, 3, 8, 8)
    data = [(inputs, torch.tensor([0, 1, 1, 0]))]
    on_cpu = tickdsl.prune(model, inputs, data=data, **arguments)
    on_fake = tickdsl.prune(model.to(fake_device.DEVICE), inputs, data=data, **arguments)
    assert {tensor.device.type for tensor in on_fake.state_dict().values()} == {torch.device(fake_device.DEVICE).type}
    assert tickdsl.structure_of(on_fake) == tickdsl.structure_of(on_cpu)
    if "unit" in arguments:
        taken = tickdsl.from_masks(on_fake, inputs)
        expected = on_cpu(inputs)
        assert torch.allclose(taken(inputs.to(fake_device.DEVICE)).cpu(), expected, atol=1e-6)
