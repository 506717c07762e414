"""Several optimisers in turn: against steps written by hand, continued, masked, and refused where they cannot be."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from generated_images import digits, network
from torch import Tensor, nn

from tickdsl.errors import TickdslError
from tickdsl.training.checkpoints import Checkpointer
from tickdsl.training.data.batch_stream import BatchStream
from tickdsl.training.data.device_dataset import DeviceDataset
from tickdsl.training.job import TrainingJob
from tickdsl.training.loop import train
from tickdsl.training.measured_choices import InMemoryChoices
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.rng import stream_seed
from tickdsl.training.stacked.eligibility import stacking_obstacle
from tickdsl.training.step import optimiser_step
from tickdsl.training.step.distillation import Distillation
from tickdsl.training.step.masks import Masks
from tickdsl.training.step.phased_step import PhasedStep
from tickdsl.training.tasks import Generate, Phase
from tickdsl.training.tasks.generate import discriminator_loss, generator_loss

RECIPE = Recipe(length="2ep", lr=0.002, batch=20, optimizer="adam", beta1=0.5, schedule="cosine")
CPU = torch.device("cpu")


class Stop(Exception):
    """Ends a training on purpose."""


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def _masks(model: nn.Module) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(weight.shape, generator=generator) < 0.5
        for name, weight in model.named_parameters()
        if weight.dim() == 4
    }


def test_a_step_is_that_of_two_optimisers_in_turn() -> None:
    data, model = digits(), network()
    by_hand = copy.deepcopy(model).train()
    train(model, data, RECIPE, seed=3, layout="contiguous")
    stream = BatchStream(DeviceDataset(data, RECIPE, CPU), [3])
    optimisers = [
        torch.optim.Adam(part.parameters(), betas=(0.5, 0.999)) for part in (by_hand.discriminator, by_hand.generator)
    ]
    rates = RECIPE.learning_rates(3)
    for step, rate in enumerate(rates):
        images, targets, _ = stream.batch(step)
        torch.manual_seed(stream_seed(3, "dropout", step))
        for optimiser, loss in zip(optimisers, (discriminator_loss, generator_loss), strict=True):
            by_hand.zero_grad()
            loss(by_hand, images, targets).backward()
            optimiser.param_groups[0]["lr"] = rate
            optimiser.step()
    for name, tensor in by_hand.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], tensor, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("frozen", ["generator", "discriminator"])
def test_a_phase_changes_its_own_part_alone(frozen: str) -> None:
    """Without the other phase, the other part keeps every parameter, and nothing has a gradient afterwards."""

    class OnePhase(Generate):
        @property
        def phases(self) -> tuple[Phase, ...]:
            return tuple(phase for phase in super().phases if phase.part != frozen)

    data, model = attrs.evolve(digits(), task=OnePhase(digits().task.features)), network()
    getattr(model, frozen).requires_grad_(False)
    before = _state(model)
    train(model, data, RECIPE, seed=0)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) is name.startswith(frozen), name
        assert parameter.grad is None


@pytest.mark.parametrize("at", [1, 2, 4])
def test_a_training_that_is_continued_ends_with_the_same_bits(tmp_path: Path, at: int) -> None:
    whole = network()
    masks = _masks(whole)
    history = train(whole, digits(), RECIPE, seed=1, masks=masks)
    parts = network()
    checkpoint, steps = Checkpointer(tmp_path), 0

    def stop() -> None:
        nonlocal steps
        if steps == at:
            checkpoint.save_now()
            raise Stop
        steps += 1

    with pytest.raises(Stop):
        train(parts, digits(), RECIPE, seed=1, masks=masks, checkpoint=checkpoint, before_step=stop)
    resumed = network()
    again = train(resumed, digits(), RECIPE, seed=1, masks=masks, checkpoint=Checkpointer(tmp_path))
    assert _equal(_state(whole), _state(resumed))
    assert [report.figures for report in history.epochs] == [report.figures for report in again.epochs]


def test_pruned_weights_of_every_part_stay_zero() -> None:
    model = network()
    masks = _masks(model)
    assert {name.split(".")[0] for name in masks} == {"generator", "discriminator"}
    train(model, digits(), RECIPE, seed=0, masks=masks)
    for name, mask in masks.items():
        assert not model.state_dict()[name][~mask].any()


def _prepare(model: nn.Module, task: Any = None, masks: dict[str, Tensor] | None = None, compile: bool = False) -> Any:
    return PhasedStep(model, RECIPE, Masks(model, masks or {}), CPU, None, compile, task or digits().task)


class _Wrong(Generate):
    def __init__(self, *phases: Phase) -> None:
        super().__init__()
        self._wrong = phases

    @property
    def phases(self) -> tuple[Phase, ...]:
        return self._wrong


def test_a_phase_that_trains_nothing_says_why() -> None:
    both = ("generator", "discriminator")
    with pytest.raises(TickdslError, match=r"trains the part `critic`, which has no parameters.*generator"):
        _prepare(network(), _Wrong(Phase("critic", "critic", generator_loss)))
    masks = {name: torch.zeros_like(mask) for name, mask in _masks(network()).items() if name.startswith("generator")}
    with pytest.raises(TickdslError, match="every weight of `generator` is pruned"):
        _prepare(network(), masks=masks)
    with pytest.raises(TickdslError, match=r"no phase of the task `generate` trains generator\."):
        _prepare(network(), _Wrong(Phase("discriminator", "discriminator", discriminator_loss)))
    detached = [Phase(part, part, lambda model, images, targets: images.sum()) for part in both]
    step = _prepare(network(), _Wrong(*detached))
    images = torch.zeros(20, 1, 8, 8)
    with pytest.raises(TickdslError, match="does not depend on the part `generator`: it trains nothing"):
        step.take(images, images, None, lr=0.1, momentum=None, seed=0)


def test_what_has_no_phases_is_refused() -> None:
    with pytest.raises(TickdslError, match="compile=on"):
        _prepare(network(), compile=True)
    with pytest.raises(TickdslError, match="losses that know no teacher"):
        train(network(), digits(), RECIPE, seed=0, distillation=Distillation(network(seed=1), 2.0, 0.5))
    jobs = [TrainingJob(model=network(seed=seed), data=digits(), recipe=RECIPE, seed=seed) for seed in (0, 1)]
    assert stacking_obstacle(jobs, InMemoryChoices(), CPU) == "their parts are trained in turn"


def test_a_loss_that_is_not_finite_says_so() -> None:
    model = network()
    with torch.no_grad():
        model.generator.deconv1.weight.fill_(float("nan"))
    with pytest.raises(TickdslError, match="the training diverged: the loss is nan in epoch 1"):
        train(model, digits(), RECIPE, seed=0)


def test_the_learning_rate_and_the_betas_reach_every_optimiser() -> None:
    step = _prepare(network())
    images = torch.zeros(20, 1, 8, 8)
    step.take(images, images, None, lr=0.125, momentum=0.75, seed=0)
    groups = step.optimizer.param_groups
    assert len(groups) == 2 and {(group["lr"], group["betas"]) for group in groups} == {(0.125, (0.75, 0.999))}


class Recorder:
    """Repeats the work that it was given, as a CUDA graph would, on the tensors of the recording."""

    def __init__(self) -> None:
        self.replayed = 0

    def warm_up(self, work: Callable[[], None]) -> None:
        work()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        def replay() -> None:
            self.replayed += 1
            work()

        return replay


def test_recorded_steps_train_as_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, plain, recorder = attrs.evolve(RECIPE, length="5ep"), network(), Recorder()
    masks = _masks(plain)
    train(plain, digits(), recipe, seed=1, masks=masks)
    captured = network()
    monkeypatch.setattr(optimiser_step, "should_capture", lambda device, recipe: True)
    monkeypatch.setattr(optimiser_step, "CudaGraphRecorder", lambda optimizer: recorder)
    train(captured, digits(), recipe, seed=1, masks=masks)
    assert recorder.replayed > 5
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(captured.state_dict()[name], tensor, rtol=1e-3, atol=1e-5, msg=name)
