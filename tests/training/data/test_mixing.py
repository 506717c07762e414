"""Mixed batches: every pixel and every target, with shares that follow the papers' distributions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from text_data import network_for, sentences
from torch.nn import functional as F
from vision_data import PLACES

from tickdsl.errors import TickdslError
from tickdsl.training import models
from tickdsl.training.data import datasets
from tickdsl.training.data.mixing import BatchMixer
from tickdsl.training.loop import train
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.step.distillation import Distillation


def _mixer(steps: int = 10, seed: int = 0, **options: float) -> BatchMixer:
    return BatchMixer(Recipe(length="9ep", **options), seed, steps)  # type: ignore[arg-type]


def _batch(images: int, size: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose pixels say which one they are of, and as many classes."""
    inputs = torch.arange(images).float().view(-1, 1, 1, 1).expand(-1, 2, size, size + 2)
    return inputs, torch.arange(images)


@settings(deadline=None)
@given(images=st.integers(1, 9), step=st.integers(0, 25), seed=st.integers(0, 20), alpha=st.floats(0.1, 3))
def test_mixup_mixes_images_and_targets_alike(images: int, step: int, seed: int, alpha: float) -> None:
    inputs, targets = _batch(images)
    mixed, probabilities = _mixer(seed=seed, mixup=alpha).mix(inputs, targets, images, step)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(images))
    expected = probabilities @ torch.arange(images).float()  # of the images whose share the targets have
    torch.testing.assert_close(mixed[:, 0, 0, 0], expected)
    torch.testing.assert_close(mixed, mixed[:, :1, :1, :1].expand_as(mixed))


@settings(deadline=None)
@given(images=st.integers(2, 9), step=st.integers(0, 25), seed=st.integers(0, 20))
def test_cutmix_exchanges_a_rectangle_and_its_share_of_the_target(images: int, step: int, seed: int) -> None:
    inputs, targets = _batch(images)
    mixed, probabilities = _mixer(seed=seed, cutmix=1.0).mix(inputs, targets, images, step)
    for index in range(images):
        other = images - 1 - index
        is_other = mixed[index, 0] == other if other != index else torch.zeros(9, 11, dtype=torch.bool)
        assert torch.equal(mixed[index, 0], torch.where(is_other, float(other), float(index)))
        rows, columns = is_other.any(1), is_other.any(0)
        assert torch.equal(is_other, rows.unsqueeze(1) & columns)  # a rectangle
        expected = torch.zeros(images)
        expected[index] += 1 - float(is_other.float().mean())
        expected[other] += float(is_other.float().mean())
        torch.testing.assert_close(probabilities[index], expected)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 2.0])
def test_shares_follow_the_beta_distribution(alpha: float) -> None:
    inputs, targets = _batch(2)
    mixer = _mixer(steps=1500, mixup=alpha)
    shares = np.array([float(mixer.mix(inputs, targets, 2, step)[1][0, 0]) for step in range(1500)])
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 0.001


def test_with_both_each_batch_is_mixed_by_one_of_them() -> None:
    inputs, targets = _batch(2)
    both, alone = _mixer(steps=400, mixup=1.0, cutmix=1.0), _mixer(steps=400, mixup=1.0)
    results = [both.mix(inputs, targets, 2, step)[0] for step in range(400)]
    by_mixup = [torch.equal(mixed, alone.mix(inputs, targets, 2, step)[0]) for step, mixed in enumerate(results)]
    assert 150 < sum(by_mixup) < 250  # and the draws of one do not hang on the other


def test_an_epoch_draws_anew_and_a_step_alone_draws_the_same() -> None:
    inputs, targets = _batch(4)
    mixer = _mixer(mixup=1.0)
    first = [mixer.mix(inputs, targets, 4, step)[1] for step in range(30)]
    assert len({float(each[0, 0]) for each in first}) == 30
    for step in (25, 3, 17):
        assert torch.equal(_mixer(mixup=1.0).mix(inputs, targets, 4, step)[1], first[step])


def test_only_classifiers_of_images_mix() -> None:
    with pytest.raises(TickdslError, match="takes no mixed targets"):
        train(PLACES.network(), PLACES.dataset(), Recipe(length="1ep", batch=16, mixup=0.2), seed=0)
    with pytest.raises(TickdslError, match="are tokens"):
        train(network_for(sentences()), sentences(), Recipe(length="1ep", batch=16, mixup=0.2), seed=0)


def test_a_teacher_sees_the_mixed_images() -> None:
    """Its outputs for the images as they are stored must not be taken for those of mixed ones."""
    data = datasets.load("synthetic", options={"size": 8, "channels": 1, "train": 32, "test": 8, "classes": 4})
    network = models.create("small-cnn", classes=4, shape=(1, 8, 8), seed=0)
    teacher = models.create("small-cnn", classes=4, shape=(1, 8, 8), seed=5)
    seen = []
    teacher.register_forward_hook(lambda module, inputs, outputs: seen.append(inputs[0].clone()))
    train(
        network, data, Recipe(length="1ep", batch=32, mixup=1.0), seed=0, distillation=Distillation(teacher, 2.0, 0.5)
    )
    stored = data.preprocess(torch.device("cpu"))(data.train_inputs)
    same = F.pairwise_distance(seen[-1].flatten(1), stored.flatten(1)).max()
    assert len(seen[-1]) == 32 and same > 0.1
