"""The Fréchet distance against scipy's formula, and the losses of a GAN."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from generated_images import column_features, digits, network
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tickdsl.errors import TickdslError
from tickdsl.training.evaluation import evaluate
from tickdsl.training.tasks import Generate
from tickdsl.training.tasks.frechet import Moments, frechet_distance, moment_sums
from tickdsl.training.tasks.generate import DISTANCE, discriminator_loss, generator_loss


def reference(first: np.ndarray, second: np.ndarray) -> float:
    """The formula as FID tools compute it: numpy's covariances and scipy's root of their product."""
    means = [features.mean(0) for features in (first, second)]
    covariances = [np.cov(features, rowvar=False).reshape(first.shape[1], -1) for features in (first, second)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
    return float(
        ((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0]) + np.trace(covariances[1])
        - 2 * np.trace(np.real(root))
    )  # fmt: skip


@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(1, 19))
@settings(deadline=None, max_examples=40)
def test_the_distance_is_that_of_scipy_whatever_the_batches(seed: int, dimensions: int, cut: int) -> None:
    generator = np.random.default_rng(seed)
    mixing, shift = generator.normal(size=(dimensions, dimensions)), generator.normal(size=dimensions)
    first = generator.normal(size=(20, dimensions))
    second = generator.normal(size=(30, dimensions)) @ mixing + shift

    def moments(features: np.ndarray) -> Moments:
        parts = torch.from_numpy(features).split([cut, len(features) - cut])
        return Moments.from_sums(sum(map(moment_sums, parts)).tolist(), len(features))

    found = frechet_distance(moments(first), moments(second))
    assert found == pytest.approx(reference(first, second), rel=1e-6, abs=1e-8)
    assert frechet_distance(moments(second), moments(first)) == pytest.approx(found, rel=1e-6, abs=1e-8)
    assert frechet_distance(moments(first), moments(first)) == pytest.approx(0, abs=1e-7)


def test_normal_distributions_of_one_dimension_have_the_distance_of_the_closed_form() -> None:
    one, other = Moments(np.array([1.0]), np.array([[4.0]])), Moments(np.array([3.0]), np.array([[9.0]]))
    assert frechet_distance(one, other) == pytest.approx((1 - 3) ** 2 + (2 - 3) ** 2)


def test_features_without_variance_have_a_distance_and_others_that_are_not_finite_have_none() -> None:
    constant = torch.ones(5, 3)
    assert frechet_distance(*(Moments.from_sums(moment_sums(constant).tolist(), 5) for _ in range(2))) == 0
    broken = Moments.from_sums(moment_sums(constant * math.nan).tolist(), 5)
    assert math.isnan(frechet_distance(broken, broken))


def test_a_test_measures_as_many_rounded_images_as_there_are_test_images() -> None:
    data, model = digits(), network()
    result = evaluate(model, data.test_inputs, data.test_targets, preprocess=data.preprocess(), task=data.task, batch=7)
    torch.manual_seed(0)
    model.eval()
    with torch.no_grad():
        outputs = [model(batch) for batch in data.preprocess()(data.test_inputs).split(7)]
    generated = torch.cat([output.generated for output in outputs])
    stored = ((generated + 1) / 2 * 255).round().to(torch.uint8)
    assert len(stored) == len(data.test_inputs)
    expected = reference(*(column_features(images).double().numpy() for images in (stored, data.test_inputs)))
    assert result.figures[DISTANCE] == pytest.approx(expected, rel=1e-6)
    assert result.score == result.figures[DISTANCE] and not data.task.primary.higher_is_better


def test_images_lie_between_minus_1_and_1_like_generated_ones() -> None:
    data = digits()
    real = data.preprocess()(data.train_inputs)
    assert float(real.min()) == pytest.approx(-1) and float(real.max()) == pytest.approx(1)
    generated = network()(real).generated
    assert generated.shape == real.shape and float(generated.abs().max()) <= 1


def test_losses_are_the_non_saturating_ones() -> None:
    data, model = digits(), network().eval()
    images = data.preprocess()(data.train_inputs[:16])
    torch.manual_seed(1)
    outputs = model(images)
    ones, zeros = torch.ones(16, 1), torch.zeros(16, 1)
    by_hand = (
        F.binary_cross_entropy_with_logits(outputs.real, ones)
        + F.binary_cross_entropy_with_logits(outputs.fake, zeros),
        F.binary_cross_entropy_with_logits(outputs.fake, ones),
    )
    for loss, expected in zip((discriminator_loss, generator_loss), by_hand, strict=True):
        torch.manual_seed(1)
        assert float(loss(model, images, images)) == pytest.approx(float(expected), rel=1e-5)
    assert float(data.task.loss(outputs, images)) == pytest.approx(float(sum(by_hand)), rel=1e-5)


def test_chance_is_the_least_distance_of_one_and_the_same_image() -> None:
    data = digits()
    features = column_features(data.test_targets).double().numpy()
    chance = data.task.chance(data.test_targets)
    assert chance == pytest.approx(float(np.trace(np.cov(features, rowvar=False))))
    for image in (features.mean(0), features[0]):
        assert reference(np.tile(image, (len(features), 1)), features) >= chance - 1e-6


def test_without_features_there_is_nothing_to_judge_by() -> None:
    task = Generate()
    assert task.chance(digits().test_targets) is None
    with pytest.raises(TickdslError, match="judged in the features"):
        task.sums((torch.zeros(2, 1, 4, 4), torch.zeros(2, 1), torch.zeros(2, 1)), torch.zeros(2, 1, 4, 4))


def test_a_network_without_a_number_of_values_to_draw_says_what_is_missing() -> None:
    model = network()
    del model.latent
    with pytest.raises(TickdslError, match="needs the attribute `latent`"):
        generator_loss(model, torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8))
