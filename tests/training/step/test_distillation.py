"""Distillation: its loss, its end, its cost, and bit-identical results after interruptions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import attrs
import pytest
import torch
from torch import Tensor, nn

from tickdsl.training import models
from tickdsl.training.checkpoints import Checkpointer
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.loop import train
from tickdsl.training.memory_layouts import PROBE_IMAGES
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.step.distillation import Distillation, Distiller

PLAIN = Recipe(length="2ep", lr=0.05, batch=32)
AUGMENTED = attrs.evolve(PLAIN, augment=("crop", "flip"))


@pytest.fixture(scope="module")
def tiny() -> Dataset:
    return datasets.load("synthetic", options={"size": 8, "channels": 1, "train": 100, "test": 40, "classes": 4})


def network(tiny: Dataset, seed: int = 0) -> nn.Module:
    return models.create("small-cnn", classes=tiny.classes, shape=tiny.shape, seed=seed)


def distillation(tiny: Dataset, until: int | None = None, weight: float = 0.9) -> Distillation:
    return Distillation(network(tiny, seed=7), 5.0, weight, until)


def trained(tiny: Dataset, recipe: Recipe, distilled: Distillation | None) -> dict[str, Tensor]:
    model = network(tiny)
    train(model, tiny, recipe, seed=1, distillation=distilled)
    return dict(model.state_dict())


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_the_loss_is_that_of_hinton() -> None:
    draw = torch.Generator().manual_seed(0)
    student_logits, teacher_logits = torch.randn(6, 4, generator=draw), torch.randn(6, 4, generator=draw)
    labels = torch.randint(0, 4, (6,), generator=draw)
    plain = nn.functional.cross_entropy(student_logits, labels)
    distiller = Distiller(Distillation(nn.Identity(), 5.0, 0.9), torch.device("cpu"), None)
    p, q = (teacher_logits / 5).softmax(1), (student_logits / 5).softmax(1)
    divergence = (p * (p / q).log()).sum(1).mean()
    expected = 0.9 * 25 * divergence + 0.1 * plain
    torch.testing.assert_close(
        distiller.loss(student_logits, distiller.soft_targets(teacher_logits, labels), plain), expected
    )


def test_without_augmentation_the_teacher_runs_once_per_image(tiny: Dataset) -> None:
    seen: Counter[int] = Counter()
    distilled = distillation(tiny)
    distilled.teacher.register_forward_hook(lambda module, args, out: seen.update([len(args[0])]))
    trained(tiny, PLAIN, distilled)
    assert seen == {100: 1, PROBE_IMAGES: 1}
    augmented = distillation(tiny)
    seen.clear()
    augmented.teacher.register_forward_hook(lambda module, args, out: seen.update([len(args[0])]))
    trained(tiny, AUGMENTED, augmented)
    assert sum(size * times for size, times in seen.items()) == 200 + PROBE_IMAGES


@pytest.mark.parametrize("recipe", [PLAIN, AUGMENTED], ids=["plain", "augmented"])
def test_distillation_changes_the_student_but_not_the_teacher(tiny: Dataset, recipe: Recipe) -> None:
    distilled = distillation(tiny)
    before = {name: tensor.clone() for name, tensor in distilled.teacher.state_dict().items()}
    assert not same(trained(tiny, recipe, distilled), trained(tiny, recipe, None))
    assert same(before, dict(distilled.teacher.state_dict()))
    assert not distilled.teacher.training


def test_distillation_of_no_weight_or_no_length_is_plain_training(tiny: Dataset) -> None:
    plain = trained(tiny, AUGMENTED, None)
    assert same(plain, trained(tiny, AUGMENTED, distillation(tiny, until=0)))
    almost = trained(tiny, AUGMENTED, distillation(tiny, weight=0.0))
    assert all(torch.allclose(plain[name].float(), almost[name].float(), atol=1e-5) for name in plain)


def test_the_teacher_does_not_run_after_its_end(tiny: Dataset) -> None:
    """The teacher runs until step 4; then the loss is the cross-entropy alone."""
    teacher_runs = 0
    distilled = distillation(tiny, until=4)

    def count(module: nn.Module, args: object, out: object) -> None:
        nonlocal teacher_runs
        teacher_runs += 1

    distilled.teacher.register_forward_hook(count)
    trained(tiny, AUGMENTED, distilled)
    assert teacher_runs == 4 + 1, "four steps, and once to see which memory layout it takes"


class Stop(Exception):
    """Raised by `before_step` to interrupt a training."""


@pytest.mark.parametrize("recipe", [PLAIN, AUGMENTED], ids=["plain", "augmented"])
@pytest.mark.parametrize("cut", [1, 3, 6])
def test_interrupted_distillation_resumes_with_the_same_bits(
    tiny: Dataset, tmp_path: Path, recipe: Recipe, cut: int
) -> None:
    checkpoints, steps = Checkpointer(tmp_path, every_seconds=0), 0

    def before_step() -> None:
        nonlocal steps
        steps += 1
        if steps == cut + 1:
            raise Stop

    with pytest.raises(Stop):
        train(
            network(tiny),
            tiny,
            recipe,
            seed=1,
            distillation=distillation(tiny, until=5),
            checkpoint=checkpoints,
            before_step=before_step,
        )
    resumed, steps = network(tiny), 100
    warned: list[str] = []
    again = Checkpointer(tmp_path, every_seconds=60, warn=warned.append)
    train(resumed, tiny, recipe, seed=1, distillation=distillation(tiny, until=5), checkpoint=again)
    assert warned == []
    assert same(trained(tiny, recipe, distillation(tiny, until=5)), dict(resumed.state_dict()))


def test_a_checkpoint_of_another_teacher_is_not_resumed(tiny: Dataset, tmp_path: Path) -> None:
    first = Checkpointer(tmp_path, every_seconds=0)
    train(network(tiny), tiny, PLAIN, seed=1, distillation=distillation(tiny), checkpoint=first, stop=4)
    warned: list[str] = []
    other = Distillation(network(tiny, seed=8), 5.0, 0.9)
    again = Checkpointer(tmp_path, every_seconds=60, warn=warned.append)
    train(network(tiny), tiny, PLAIN, seed=1, distillation=other, checkpoint=again, stop=4)
    assert len(warned) == 1 and "another training" in warned[0]
