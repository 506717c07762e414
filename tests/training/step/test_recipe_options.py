"""Options of a recipe that change a step: against torch's own or steps by hand, continued, captured and in stacks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import attrs
import generated_images
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_cuda_graphs import CUDA, FakeRecorder
from text_data import corpus, network_for
from torch import Tensor, nn
from vision_data import SEGMENT

from tickdsl.engine.scheduler.step_grouper import _UNSTACKABLE_FIELDS
from tickdsl.errors import TickdslError
from tickdsl.training import models
from tickdsl.training.checkpoints import Checkpointer
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.evaluation import evaluate
from tickdsl.training.history import TrainingHistory
from tickdsl.training.job import TrainingJob
from tickdsl.training.loop import train
from tickdsl.training.measured_choices import InMemoryChoices
from tickdsl.training.parallel.shares import micro_batches
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.sparsifiers.evolving import Evolution
from tickdsl.training.sparsifiers.zeroing import SoftPruning
from tickdsl.training.stacked.eligibility import stacking_obstacle
from tickdsl.training.step import optimiser_step
from tickdsl.training.step.captured_step import should_capture
from tickdsl.training.step.gradient_terms import NormClip
from tickdsl.training.step.masks import Masks
from tickdsl.training.tasks import UNLABELLED

RECIPE = Recipe(length="3ep", lr=0.05, batch=32, augment=("crop", "flip"))
STEPS = 12
#: Options by name, each with a value that changes every step.
OPTIONS: dict[str, dict[str, Any]] = {
    "clip": {"clip": 0.3},
    "accumulate": {"accumulate": 3},
    "ema": {"ema": 0.7},
    "mixup": {"mixup": 0.4},
    "cutmix": {"cutmix": 1.0},
    "loss": {"loss": "focal(gamma=1)"},
    "class-weights": {"class_weights": "balanced"},
    "sampling": {"sampling": "balanced"},
    "weighted parts": {"class_weights": (1, 4, 1, 2), "loss": "focal", "accumulate": 2, "clip": 0.3},
    "transforms": {"augment": ("flip", "RandomErasing", "GaussianNoise")},
    "bias-lr": {"bias_lr": 8.0},
    "resize-from": {"resize_from": 0.5},
    "both": {"mixup": 0.4, "cutmix": 1.0, "label_smoothing": 0.1, "accumulate": 2},
}


class Stop(Exception):
    """Ends a training on purpose."""


@pytest.fixture(scope="module")
def tiny() -> Dataset:
    return datasets.load("synthetic", options={"size": 8, "channels": 1, "train": 121, "test": 40, "classes": 4})


def _model(dropout: float = 0.1) -> nn.Module:
    return nn.Sequential(nn.Dropout(dropout), models.create("small-cnn", classes=4, shape=(1, 8, 8), seed=0))


def _masks(model: nn.Module) -> dict[str, Tensor]:
    stream = torch.Generator().manual_seed(3)
    return {n: torch.rand(p.shape, generator=stream) < 0.4 for n, p in model.named_parameters() if p.dim() > 1}


def _train(data: Dataset, recipe: Recipe, **more: Any) -> tuple[nn.Module, TrainingHistory]:
    model = _model()
    return model, train(model, data, recipe, seed=7, masks=_masks(model), **more)


def _differ(one: nn.Module, other: nn.Module) -> bool:
    return any(not torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_changes_the_training(tiny: Dataset, option: str) -> None:
    assert _differ(_train(tiny, RECIPE)[0], _train(tiny, attrs.evolve(RECIPE, **OPTIONS[option]))[0])


@pytest.mark.parametrize("option", OPTIONS)
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(interruptions=st.lists(st.integers(0, STEPS - 1), min_size=1, max_size=3))
def test_a_resumed_training_ends_with_the_same_bits(
    tiny: Dataset, tmp_path_factory: pytest.TempPathFactory, option: str, interruptions: list[int]
) -> None:
    recipe = attrs.evolve(RECIPE, **OPTIONS[option])
    whole, expected = _train(tiny, recipe)
    checkpoint = Checkpointer(tmp_path_factory.mktemp("checkpoint"), every_seconds=0)
    left = STEPS
    for stop_at in interruptions:
        if stop_at < left:
            taken = iter(range(stop_at))

            def interrupt() -> None:
                if next(taken, None) is None:  # noqa: B023
                    raise Stop

            with pytest.raises(Stop):
                _train(tiny, recipe, checkpoint=checkpoint, before_step=interrupt)
            left -= stop_at
    resumed, history = _train(tiny, recipe, checkpoint=checkpoint)
    assert history == expected
    for name, tensor in resumed.state_dict().items():
        assert torch.equal(tensor, whole.state_dict()[name]), name


@pytest.mark.parametrize("option", OPTIONS)
def test_a_captured_step_is_replayed_with_the_same_result(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    recipe, recorder = attrs.evolve(RECIPE, **OPTIONS[option]), FakeRecorder()
    expected, _ = _train(tiny, recipe)
    with monkeypatch.context() as patch:
        patch.setattr(optimiser_step, "should_capture", lambda device, recipe: should_capture(CUDA, recipe))
        patch.setattr(optimiser_step, "CudaGraphRecorder", lambda optimizer: recorder)
        captured, _ = _train(tiny, recipe)
    sizes_after_the_first_epoch = 2 if recipe.resize_from else 1  # each is recorded once
    assert recorder.recorded == sizes_after_the_first_epoch and recorder.replayed > 1
    for (name, ours), theirs in zip(captured.state_dict().items(), expected.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("clip", "clipped by its own norm"),
        ("accumulate", "computed in parts"),
        ("ema", "averaged"),
        ("mixup", "mixed by its own"),
        ("cutmix", "mixed by its own"),
        ("bias-lr", "a learning rate of their own"),
    ],
)
def test_stacks_refuse_them(tiny: Dataset, option: str, reason: str) -> None:
    recipe = attrs.evolve(RECIPE, **OPTIONS[option])
    jobs = [TrainingJob(model=_model(0), data=tiny, recipe=recipe, seed=seed) for seed in (1, 2)]
    assert reason in str(stacking_obstacle(jobs, InMemoryChoices(), torch.device("cpu")))
    assert set(OPTIONS[option]) <= set(_UNSTACKABLE_FIELDS)  # so that their steps are never grouped


# -- clip


@given(limit=st.floats(0.01, 20), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_a_gradient_is_clipped_as_torch_does_it(limit: float, seed: int) -> None:
    stream = torch.Generator().manual_seed(seed)
    networks = [nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)) for _ in "ab"]
    networks[1].load_state_dict(networks[0].state_dict())
    images = torch.randn(6, 5, generator=stream)
    for network in networks:
        network(images).square().sum().backward()
    torch.nn.utils.clip_grad_norm_(networks[0].parameters(), limit)
    NormClip(list(networks[1].parameters()), Masks(networks[1], {}), limit).apply()
    for ours, theirs in zip(networks[1].parameters(), networks[0].parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_gradients_of_pruned_weights_do_not_count() -> None:
    """What is left of a gradient does not hang on what the pruned weights' gradients are; they are scaled alike."""
    layer = nn.Linear(3, 2, bias=False)
    mask = torch.tensor([[True, False, True], [False, True, False]])
    masks = Masks(layer, {"weight": mask})
    clip = NormClip([layer.weight], masks, 1.0)
    layer.weight.grad = torch.where(mask, 3.0, 100.0)
    clip.apply()
    torch.testing.assert_close(layer.weight.grad[mask].norm(), torch.tensor(1.0))
    torch.testing.assert_close(layer.weight.grad[~mask], torch.full((3,), 100 / 27**0.5))
    masks.replace({"weight": ~mask})  # in place: the norm follows a mask that changes
    layer.weight.grad = torch.where(mask, 100.0, 0.1)
    clip.apply()
    assert torch.equal(layer.weight.grad, torch.where(mask, 100.0, 0.1))  # short enough


# -- bias-lr


@pytest.mark.parametrize("nesterov", [True, False])
def test_biases_train_at_a_multiple_of_the_rate_with_the_decay_of_the_weights(nesterov: bool) -> None:
    """As torch does with a group of their own, whose decay is divided as much as its rate is multiplied."""
    factor, recipe = 8.0, Recipe(length="2ep", lr=0.02, decay=0.1, nesterov=nesterov, bias_lr=8.0)
    ours = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 4))
    theirs = copy.deepcopy(ours)
    biases = [p for name, p in theirs.named_parameters() if name.endswith("bias")]
    weights = [p for name, p in theirs.named_parameters() if not name.endswith("bias")]
    reference = torch.optim.SGD(
        [{"params": weights}, {"params": biases, "lr": 0.02 * factor, "weight_decay": 0.1 / factor}],
        lr=0.02, momentum=0.9, weight_decay=0.1, nesterov=nesterov,
    )  # fmt: skip
    step = optimiser_step.OptimiserStep(ours, recipe, Masks(ours, {}), None, torch.device("cpu"), None)
    stream = torch.Generator().manual_seed(0)
    for _ in range(4):
        images, targets = torch.randn(8, 2, 4, 4, generator=stream), torch.randint(0, 4, (8,), generator=stream)
        step.take(images, targets, None, lr=0.02, momentum=None, seed=0)
        reference.zero_grad()
        nn.functional.cross_entropy(theirs(images), targets).backward()
        reference.step()
    for (name, parameter), expected in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(parameter, expected, msg=name)


# -- accumulate


def _case(name: str) -> tuple[Dataset, Callable[[], nn.Module]]:
    """Data, and a network for them that has neither batch norm nor dropout."""
    if name == "segment":
        data = SEGMENT.dataset(train=50)
        data.train_targets[:, ::3] = UNLABELLED
        data.train_targets[::4, :12] = UNLABELLED  # images differ in how much of them counts
        torch.manual_seed(0)
        layer = nn.Conv2d(1, data.classes, 3, padding=1)
        return data, lambda: copy.deepcopy(layer)
    if name == "language":
        return corpus(), lambda: network_for(corpus())
    data = datasets.load("synthetic", options={"size": 8, "channels": 1, "train": 50, "test": 40, "classes": 4})
    return data, lambda: models.create("lenet-300-100", classes=4, shape=(1, 8, 8), seed=0, options={"width": 0.2})


@given(images=st.integers(1, 300), micro_batch=st.integers(1, 64))
def test_micro_batches_fit_and_none_is_a_single_image(images: int, micro_batch: int) -> None:
    sizes = [len(part) for part in torch.arange(images).tensor_split(micro_batches(images, micro_batch))]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= micro_batch or (max(sizes) <= micro_batch + 1 and images % micro_batch)
    assert min(sizes) > 1 or 1 in (images, micro_batch)


@pytest.mark.parametrize("name", ["small", "segment", "language"])
@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_accumulated_steps_are_those_of_whole_batches(name: str, clip: float) -> None:
    """Up to rounding, for networks without batch norm and dropout, also if a loss leaves out some of its terms."""
    data, network = _case(name)
    recipe = Recipe(length="2ep", lr=0.05, batch=16, clip=clip, decay=1e-3)
    states, losses = [], []
    for accumulate in (1, 3, 16):
        model = network()
        history = train(model, data, attrs.evolve(recipe, accumulate=accumulate), seed=3)
        states.append(model.state_dict())
        losses.append([epoch.train_loss for epoch in history.epochs])
    for state in states[1:]:
        for tensor, whole in zip(state.values(), states[0].values(), strict=True):
            torch.testing.assert_close(tensor, whole, rtol=1e-3, atol=1e-5)
    if name == "small":  # the summed loss weights batches by all their terms, as those left out are not counted yet
        assert losses[1] == pytest.approx(losses[0], rel=1e-4) and losses[2] == pytest.approx(losses[0], rel=1e-4)


def test_a_task_with_phases_takes_no_micro_batches() -> None:
    with pytest.raises(TickdslError, match="accumulate=2: the task `generate` trains the parts"):
        train(
            generated_images.network(), generated_images.digits(), Recipe(length="1ep", batch=20, accumulate=2), seed=0
        )


# -- ema


@pytest.mark.parametrize("decay", [0.15, 0.9])
def test_the_average_of_the_weights_is_tested_and_kept(tiny: Dataset, decay: float) -> None:
    """Against the average taken by hand of the weights that a training without the option has after each step."""
    states: list[dict[str, Tensor]] = []

    def keep(state: Any) -> None:
        states.append({name: tensor.clone() for name, tensor in state.items()})

    every_step = dict.fromkeys(range(STEPS + 1), keep)
    _train(tiny, RECIPE, step_callbacks=every_step)
    weights = states.copy()
    states.clear()
    averaged, history = _train(tiny, attrs.evolve(RECIPE, ema=decay), step_callbacks=every_step)
    expected = weights[0]
    for number, state in enumerate(weights[1:], 1):
        share = min(decay, (1 + number) / (10 + number))
        expected = {
            name: share * value + (1 - share) * state[name] if value.is_floating_point() else state[name]
            for name, value in expected.items()
        }
        for name, value in states[number].items():  # what rewinding points hold is the average too
            torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6)
    for name, value in averaged.state_dict().items():
        assert torch.equal(value, states[-1][name])
    for name, mask in _masks(averaged).items():
        assert not averaged.state_dict()[name][~mask].any()
    preprocess = tiny.preprocess(torch.device("cpu"))
    result = evaluate(averaged.eval(), tiny.test_inputs, tiny.test_targets, preprocess=preprocess)
    assert history.epochs[-1].test_loss == pytest.approx(result.loss, rel=1e-5)


@pytest.mark.parametrize("kind", ["evolution", "soft"])
def test_what_a_change_of_the_masks_prunes_has_no_average(tiny: Dataset, kind: str) -> None:
    model = _model()
    name = "1.conv2.weight"
    chosen = torch.zeros_like(model.state_dict()[name], dtype=torch.bool)
    chosen[:2] = True
    recipe = attrs.evolve(RECIPE, ema=0.9)
    if kind == "soft":
        train(model, tiny, recipe, seed=1, sparsifier=SoftPruning(lambda state: {name: chosen}, every=5, stop=12))
        assert not model.state_dict()[name][:2].any()
        return
    masks = _masks(model)
    history = train(model, tiny, recipe, seed=1, masks=masks, sparsifier=Evolution(0.3, 2, 10))
    assert history.masks is not None
    assert any(not torch.equal(history.masks[name], masks[name]) for name in masks)
    for name, mask in history.masks.items():
        assert not model.state_dict()[name].cpu()[~mask].any()
