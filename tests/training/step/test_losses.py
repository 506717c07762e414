"""Losses that a recipe names, class weights and sampling: against torch's own, in parts, stacks and teaching."""

from __future__ import annotations

import copy
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from vision_data import SEGMENT

from tickdsl.errors import TickdslError
from tickdsl.training import models
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.data.sampling import BalancedSampler
from tickdsl.training.job import TrainingJob
from tickdsl.training.loop import train
from tickdsl.training.measured_choices import InMemoryChoices
from tickdsl.training.recipes.losses import DEFAULT_LOSSES, LOSSES
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.stacked.eligibility import stacking_obstacle
from tickdsl.training.stacked.training import train_stacked
from tickdsl.training.step.distillation import Distillation
from tickdsl.training.step.losses import class_weights, training_loss
from tickdsl.training.tasks import TASKS, UNLABELLED
from tickdsl.training.tasks.losses import BUILTIN_LOSSES
from tickdsl.training.torchvision_import import import_torchvision

RECIPE = Recipe(length="2ep", lr=0.05, batch=16)


def _batch(task: str, seed: int = 0, size: int = 6) -> tuple[Tensor, Tensor]:
    """Outputs and targets of a batch of a task with 3 classes, labels or numbers."""
    stream = torch.Generator().manual_seed(seed)
    if task == "classify":
        return torch.randn(size, 3, generator=stream), torch.randint(0, 3, (size,), generator=stream)
    if task == "tag":
        return torch.randn(size, 3, generator=stream), torch.randint(0, 2, (size, 3), generator=stream).float()
    if task == "segment":
        masks = torch.randint(0, 4, (size, 5, 4), generator=stream)
        return torch.randn(size, 3, 5, 4, generator=stream), masks.masked_fill(masks == 3, UNLABELLED).byte()
    if task == "reconstruct":
        images = torch.randint(0, 256, (size, 1, 4, 4), generator=stream).byte()
        return torch.randn(size, 1, 4, 4, generator=stream), images
    return torch.randn(size, 3, generator=stream), torch.randn(size, 3, generator=stream)


def _loss(task: str, weights: Tensor | None = None, **fields: Any) -> Any:
    return training_loss(TASKS[task], attrs.evolve(RECIPE, **fields), weights)


def test_the_tables_name_the_same_losses() -> None:
    by_task = {
        task: {name for name, info in LOSSES.builtin.items() if task in info.tasks} - {"cross-entropy"}
        for task in DEFAULT_LOSSES
    }
    assert by_task == {task: set(BUILTIN_LOSSES.get(task, ())) - {"cross-entropy"} for task in DEFAULT_LOSSES}


@pytest.mark.parametrize("task", sorted(DEFAULT_LOSSES.keys() - {"language"}))
def test_the_default_loss_by_its_name_is_that_of_the_task(task: str) -> None:
    outputs, targets = _batch(task)
    assert torch.equal(
        _loss(task, loss=DEFAULT_LOSSES[task]).mean(outputs, targets), TASKS[task].loss(outputs, targets)
    )


@given(seed=st.integers(0, 999), gamma=st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0]))
@settings(max_examples=20, deadline=None)
def test_focal_losses_are_those_of_the_paper(seed: int, gamma: float) -> None:
    """Of labels as torchvision computes them; of classes and pixels one by one from the probabilities."""
    loss = f"focal(gamma={gamma})"
    sigmoid_focal_loss = import_torchvision().ops.sigmoid_focal_loss
    outputs, targets = _batch("tag", seed)
    expected = sigmoid_focal_loss(outputs, targets, alpha=-1, gamma=gamma, reduction="mean")
    torch.testing.assert_close(_loss("tag", loss=loss).mean(outputs, targets), expected)
    weights = torch.tensor([1.0, 3.0, 0.5])
    for task in ("classify", "segment"):
        outputs, targets = _batch(task, seed)
        points = outputs.movedim(1, -1).reshape(-1, 3).tolist()
        terms, shares = [], []
        for logits, wanted in zip(points, targets.flatten().tolist(), strict=True):
            if wanted != UNLABELLED:
                p = np.exp(logits[wanted]) / np.exp(logits).sum()
                terms.append((1 - p) ** gamma * -np.log(p))
                shares.append(weights[wanted].item())
        assert float(_loss(task, loss=loss).mean(outputs, targets)) == pytest.approx(np.mean(terms), rel=1e-4)
        weighted = np.average(terms, weights=shares)
        assert float(_loss(task, weights, loss=loss).mean(outputs, targets)) == pytest.approx(weighted, rel=1e-4)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("task", ["classify", "tag", "segment"])
def test_what_is_learnt_already_has_a_finite_gradient(task: str, gamma: float) -> None:
    outputs, targets = _batch(task)
    right = 1e4 * (2 * targets - 1) if task == "tag" else torch.zeros_like(outputs)
    if task != "tag":
        right.scatter_(1, targets.long().clamp(max=2).unsqueeze(1), 1e4)
    right.requires_grad_(True)
    _loss(task, loss=f"focal(gamma={gamma})").mean(right, targets).backward()
    assert right.grad is not None and bool(right.grad.isfinite().all())


def test_dice_is_one_minus_the_mean_overlap() -> None:
    outputs, targets = _batch("segment", 3)
    probabilities, masks = outputs.softmax(1).numpy(), targets.numpy()
    scores = []
    for label in range(3):
        predicted = probabilities[:, label][masks != UNLABELLED]
        wanted = (masks[masks != UNLABELLED] == label).astype(float)
        scores.append((2 * (predicted * wanted).sum() + 0.5) / (predicted.sum() + wanted.sum() + 0.5))
    loss = _loss("segment", loss="dice(smooth=0.5)").mean(outputs, targets)
    assert float(loss) == pytest.approx(1 - np.mean(scores), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "function", "options"),
    [
        ("l1", F.l1_loss, {}),
        ("huber(delta=0.3)", F.huber_loss, {"delta": 0.3}),
        ("smooth-l1(beta=0.3)", F.smooth_l1_loss, {"beta": 0.3}),
    ],
)
def test_errors_of_numbers_and_of_pixels_are_torchs(name: str, function: Any, options: Any) -> None:
    outputs, targets = _batch("regress")
    assert torch.equal(_loss("regress", loss=name).mean(outputs, targets), function(outputs, targets, **options))
    outputs, targets = _batch("reconstruct")
    expected = function(outputs, targets.float() / 255, **options)
    assert torch.equal(_loss("reconstruct", loss=name).mean(outputs, targets), expected)


# -- class weights


def test_weights_are_those_of_torch() -> None:
    weights = torch.tensor([1.0, 3.0, 0.5])
    outputs, targets = _batch("classify")
    expected = nn.CrossEntropyLoss(weights, label_smoothing=0.1)(outputs, targets)
    torch.testing.assert_close(_loss("classify", weights, label_smoothing=0.1).mean(outputs, targets), expected)
    outputs, targets = _batch("tag")
    expected = nn.BCEWithLogitsLoss(pos_weight=weights)(outputs, targets)
    torch.testing.assert_close(_loss("tag", weights).mean(outputs, targets), expected)
    outputs, targets = _batch("segment")
    expected = nn.CrossEntropyLoss(weights, ignore_index=UNLABELLED)(outputs, targets.long())
    torch.testing.assert_close(_loss("segment", weights).mean(outputs, targets), expected)


@given(counts=st.lists(st.integers(0, 9), min_size=2, max_size=6).filter(any))
def test_balanced_weights_give_every_class_the_same_share(counts: list[int]) -> None:
    recipe = attrs.evolve(RECIPE, class_weights="balanced")
    targets = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    weights = class_weights(TASKS["classify"], recipe, targets, len(counts))
    assert weights is not None
    shares = [float(weights[label]) * count for label, count in enumerate(counts) if count]
    assert shares == pytest.approx([sum(counts) / len(shares)] * len(shares), rel=1e-5)
    masks = torch.cat([targets, torch.full((5,), UNLABELLED)]).view(1, -1, 1).byte()
    assert torch.equal(class_weights(TASKS["segment"], recipe, masks, len(counts)), weights)  # type: ignore[arg-type]


def test_balanced_labels_weigh_as_much_as_their_absence() -> None:
    targets = torch.tensor([[1.0, 0, 1], [0, 0, 1], [0, 0, 0], [0, 0, 1]])
    weights = class_weights(TASKS["tag"], attrs.evolve(RECIPE, class_weights="balanced"), targets, 3)
    torch.testing.assert_close(weights, torch.tensor([3.0, 1.0, 1 / 3]))


@pytest.mark.parametrize("fields", [{"class_weights": (1, 2)}, {"class_weights": "balanced"}])
def test_weights_that_do_not_fit_are_one_message(fields: dict[str, Any]) -> None:
    task = TASKS["classify" if fields["class_weights"] != "balanced" else "regress"]
    with pytest.raises(TickdslError, match=r"class-weights= has 2 weights, but the data has 3|no classes or labels"):
        class_weights(task, attrs.evolve(RECIPE, **fields), torch.tensor([0, 1, 2]), 3)


# -- trainings


@pytest.fixture(scope="module")
def tiny() -> Dataset:
    return datasets.load("synthetic", options={"size": 8, "channels": 1, "train": 50, "test": 40, "classes": 4})


def _network(seed: int = 0) -> nn.Module:
    return models.create("lenet-300-100", classes=4, shape=(1, 8, 8), seed=seed, options={"width": 0.2})


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        ("classify", {"class_weights": (1, 5, 1, 0.2)}),
        ("classify", {"loss": "focal", "class_weights": (1, 5, 1, 0.2)}),
        ("segment", {"class_weights": "balanced"}),
        ("segment", {"loss": "focal"}),
    ],
)
def test_weighted_micro_batches_add_up_to_the_batch(tiny: Dataset, data: str, fields: dict[str, Any]) -> None:
    states = []
    for accumulate in (1, 3):
        if data == "classify":
            samples, model = tiny, _network()
        else:
            samples = SEGMENT.dataset(train=40)
            torch.manual_seed(0)
            model = nn.Conv2d(1, samples.classes, 3, padding=1)
        train(model, samples, attrs.evolve(RECIPE, accumulate=accumulate, **fields), seed=3)
        states.append(model.state_dict())
    for tensor, whole in zip(*(state.values() for state in states), strict=True):
        torch.testing.assert_close(tensor, whole, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "fields", [{"loss": "focal"}, {"class_weights": "balanced"}, {"sampling": "balanced"}, {"loss": "cross-entropy"}]
)
def test_a_stack_trains_like_single_trainings(tiny: Dataset, fields: dict[str, Any]) -> None:
    recipe, cpu = attrs.evolve(RECIPE, **fields), torch.device("cpu")

    def jobs() -> list[TrainingJob]:
        return [TrainingJob(model=_network(seed), data=tiny, recipe=recipe, seed=seed) for seed in (1, 2)]

    assert stacking_obstacle(jobs(), InMemoryChoices(), cpu) is None
    together, alone = jobs(), jobs()
    train_stacked(together, InMemoryChoices())
    for job in alone:
        train(**job.as_kwargs())
    for one, other in zip(together, alone, strict=True):
        for ours, theirs in zip(one.model.parameters(), other.model.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_a_student_learns_from_its_teacher_and_the_named_loss(tiny: Dataset) -> None:
    """With all weight on the teacher, the loss of the targets counts for nothing; else it does."""
    ends = {}
    for weight in (0.5, 1.0):
        for loss in ("cross-entropy", "focal"):
            model = _network()
            teacher = Distillation(copy.deepcopy(_network(9)), temperature=2.0, weight=weight)
            train(model, tiny, attrs.evolve(RECIPE, loss=loss), seed=1, distillation=teacher)
            ends[weight, loss] = nn.utils.parameters_to_vector(model.parameters())
    assert torch.equal(ends[1.0, "cross-entropy"], ends[1.0, "focal"])
    assert not torch.equal(ends[0.5, "cross-entropy"], ends[0.5, "focal"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"loss": "nothing"}, "loss=nothing: must be one of"),
        ({"loss": "focal(alpha=1)"}, "it has no option alpha; its options: gamma"),
        ({"loss": "huber(delta=0)"}, "delta must be above 0"),
        ({"loss": "focal(gamma='a')"}, "gamma must be at least 0"),
        ({"loss": "focal", "mixup": 0.2}, "mixup: loss=focal takes no mixed targets"),
        ({"loss": "dice", "class_weights": "balanced"}, "loss=dice weighs no classes"),
        ({"class_weights": "equal"}, "must be balanced or a list"),
        ({"class_weights": (1, -1)}, "every weight must be above 0"),
        ({"sampling": "rare"}, "must be one of uniform, balanced"),
        ({"optimizer": "sgd(momentum=1)"}, "it has no options"),
    ],
)
def test_a_recipe_refuses_what_does_not_fit(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attrs.evolve(RECIPE, **fields)


def test_a_loss_of_another_task_is_one_message(tiny: Dataset) -> None:
    with pytest.raises(TickdslError, match="loss=dice: the task `classify` has no such loss"):
        train(_network(), tiny, attrs.evolve(RECIPE, loss="dice"), seed=0)


# -- balanced sampling


@given(counts=st.lists(st.integers(0, 30), min_size=2, max_size=6).filter(any), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_an_order_shows_all_classes_alike(counts: list[int], seed: int) -> None:
    targets = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    targets = targets[torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))]
    sampler = BalancedSampler(targets, TASKS["classify"])
    drawn = torch.cat([sampler.order(seed, epoch) for epoch in range(1 + 4000 // len(targets))])
    assert len(sampler.order(seed, 0)) == len(targets)
    assert torch.equal(sampler.order(seed, 1), BalancedSampler(targets, TASKS["classify"]).order(seed, 1))
    assert set(drawn.tolist()) == set(range(len(targets)))  # every image comes up
    shares = targets[drawn].bincount(minlength=len(counts)) / len(drawn)
    present = sum(count > 0 for count in counts)
    for share, count in zip(shares.tolist(), counts, strict=True):
        assert share == pytest.approx(1 / present if count else 0, abs=0.06)
