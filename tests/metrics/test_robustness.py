"""Corruptions are seeded and reduce accuracy, attacks follow their papers, and benchmark files can be read."""

from __future__ import annotations

import itertools
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tickdsl.errors import TickdslError
from tickdsl.metrics import attacks, shifted_test_sets
from tickdsl.metrics.corruptions import KINDS, SEVERITIES, corrupt
from tickdsl.metrics.robustness import measure_robustness
from tickdsl.training.data.datasets import Dataset, load
from tickdsl.training.evaluation import evaluate
from tickdsl.training.loop import train
from tickdsl.training.models import create
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.rng import generator

CPU = torch.device("cpu")
NOISY = ("gaussian-noise", "shot-noise")


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load("digits")


@pytest.fixture(scope="module")
def network(data: Dataset) -> nn.Module:
    model = create("small-cnn", classes=10, shape=data.shape, seed=1, options={"width": 0.5})
    train(model, data, Recipe.from_dict({"length": "6ep", "lr": 0.1, "batch": 64}), seed=1)
    return model.eval()


@pytest.fixture(scope="module")
def figures(network: nn.Module, data: Dataset) -> dict[str, float]:
    return measure_robustness(network, data, device=CPU)


def smooth_images(channels: int = 3, side: int = 32) -> Tensor:
    smooth = torch.rand(6, channels, side // 4, side // 4, generator=generator(1, "pictures"))
    return (F.interpolate(smooth, scale_factor=4, mode="bilinear") * 255).byte()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 32), (3, 64)])
def test_corruptions_keep_the_shape_are_repeatable_and_grow(kind: str, channels: int, side: int) -> None:
    clean = smooth_images(channels, side)
    before = clean.clone()
    assert torch.equal(corrupt(clean, kind, 0), clean)
    errors = []
    for severity in SEVERITIES:
        result = corrupt(clean, kind, severity)
        assert (result.shape, result.dtype) == (clean.shape, torch.uint8)
        assert torch.equal(result, corrupt(clean, kind, severity))
        errors.append((result.float() - clean.float()).abs().mean().item())
    # From 8 pixels, a grid of 6 changes less than one of 7, and 4 less than 5, since they share edges with the image's.
    slack = 0.8 if kind == "pixelate" and side == 8 else 1.0
    assert all(later > slack * error for error, later in itertools.pairwise(errors))
    assert errors[0] > 0 and errors[-1] > 1.2 * errors[0]
    assert torch.equal(clean, before)


def test_corruptions_match_their_definitions() -> None:
    grey = torch.full((4, 3, 32, 32), 128, dtype=torch.uint8)
    for kind in ("blur", "contrast", "pixelate"):
        assert torch.equal(corrupt(grey, kind, 5), grey)
    assert (corrupt(grey, "brightness", 5).float() / 255).mean().item() == pytest.approx(128 / 255 + 0.3, abs=0.003)
    noise = corrupt(grey, "gaussian-noise", 5).float() / 255
    assert noise.std().item() == pytest.approx(0.14, rel=0.05)
    shot = corrupt(grey, "shot-noise", 5).float() / 255
    assert shot.var().item() == pytest.approx(128 / 255 / 50, rel=0.1)  # a Poisson count's variance is its mean
    drawn = smooth_images()
    about_their_means = [
        x.float() - x.float().mean((1, 2, 3), keepdim=True) for x in (drawn, corrupt(drawn, "contrast", 2))
    ]
    torch.testing.assert_close(about_their_means[1], about_their_means[0] / 2, atol=1.0, rtol=0)


def test_batches_of_a_noise_differ() -> None:
    black = torch.full((1500, 1, 8, 8), 100, dtype=torch.uint8)
    result = corrupt(black, "gaussian-noise", 3)
    assert not torch.equal(result[:500], result[1000:])


def test_accuracy_falls_with_severity(figures: dict[str, float]) -> None:
    assert figures["robustness.clean"] > 0.8
    by_severity = [np.mean([figures[f"robustness.{kind}.{s}"] for kind in KINDS]) for s in SEVERITIES]
    assert by_severity == sorted(by_severity, reverse=True)
    assert by_severity[-1] < figures["robustness.clean"] - 0.05
    each = [figures[f"robustness.{kind}.{s}"] for kind in KINDS for s in SEVERITIES]
    assert figures["robustness"] == pytest.approx(np.mean(each))


def test_attacks_reduce_accuracy_and_pgd_at_least_as_much_as_fgsm(figures: dict[str, float]) -> None:
    assert figures["robustness.pgd"] <= figures["robustness.fgsm"] < figures["robustness.clean"]


def test_the_network_is_left_as_it_was(network: nn.Module, data: Dataset, figures: dict[str, float]) -> None:
    plain = evaluate(network, data.test_inputs, data.test_targets, preprocess=data.preprocess()).accuracy
    assert figures["robustness.clean"] == plain


def test_fgsm_is_one_step_along_the_sign_of_the_gradient() -> None:
    weights = torch.randn(3, 8, generator=generator(1, "w"), dtype=torch.float64)
    x = torch.rand(5, 2, 2, 2, generator=generator(1, "x"), dtype=torch.float64) * 0.8 + 0.1
    labels = torch.tensor([0, 1, 2, 0, 1])
    softmax = F.softmax(x.flatten(1) @ weights.T, dim=1)
    by_hand = ((softmax - F.one_hot(labels, 3)) @ weights).view_as(x)  # gradient of softmax regression
    result = attacks.fgsm(lambda p: p.flatten(1).float() @ weights.float().T, x.float(), labels, radius=0.05)
    torch.testing.assert_close(result, (x + 0.05 * by_hand.sign()).float())


@pytest.mark.parametrize("radius", [0.0, 0.03, 0.5])
def test_pgd_stays_within_the_radius_and_the_value_range(network: nn.Module, data: Dataset, radius: float) -> None:
    images, labels = data.test_inputs[:64].float() / 255, data.test_targets[:64]
    result = attacks.pgd(lambda p: network(p * 4), images, labels, generator(0, "pgd"), radius=radius, step=radius / 3)
    assert (result - images).abs().max() <= radius + 1e-6
    assert result.min() >= 0 and result.max() <= 1


def test_pgd_reaches_the_corner_of_the_ball_where_the_loss_is_linear_in_sign() -> None:
    images, labels = torch.full((2, 1, 2, 2), 0.5), torch.tensor([0, 1])

    def scores(p: Tensor) -> Tensor:
        total = p.sum((1, 2, 3))
        return torch.stack([total, -total], dim=1)

    result = attacks.pgd(scores, images, labels, generator(0, "x"), radius=0.1, step=0.05, steps=10)
    torch.testing.assert_close(result[0], torch.full((1, 2, 2), 0.4))
    torch.testing.assert_close(result[1], torch.full((1, 2, 2), 0.6))


# -- benchmark files


def cifar_10_c(root: Path, count: int = 10) -> np.ndarray:
    images = np.random.default_rng(1).integers(0, 256, (5 * count, 32, 32, 3), dtype=np.uint8)
    (root / "CIFAR-10-C").mkdir(parents=True)
    np.save(root / "CIFAR-10-C" / "motion_blur.npy", images)
    np.save(root / "CIFAR-10-C" / "labels.npy", np.tile(np.arange(count) % 10, 5).astype(np.uint8))
    return images


def test_cifar_10_c_is_read_severity_by_severity(tmp_path: Path) -> None:
    images = cifar_10_c(tmp_path)
    assert set(shifted_test_sets.benchmark_digests(tmp_path)) == {"cifar-10-c"}
    result = list(shifted_test_sets.read_shifted_sets(tmp_path))
    assert [(test.kind, test.severity) for test in result] == [("motion-blur", s) for s in SEVERITIES]
    assert np.array_equal(result[2].images.numpy(), images[20:30].transpose(0, 3, 1, 2))
    assert result[2].labels.tolist() == list(range(10))


def test_cifar_10_2_is_read(tmp_path: Path) -> None:
    images = np.zeros((7, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "cifar102_test.npz", images=images, labels=np.arange(7))
    (result,) = shifted_test_sets.read_shifted_sets(tmp_path)
    assert (result.benchmark, result.kind, len(result.images)) == ("cifar-10.2", "", 7)


def test_other_bytes_are_another_digest(tmp_path: Path) -> None:
    assert shifted_test_sets.benchmark_digests(tmp_path) == {}
    cifar_10_c(tmp_path / "a")
    cifar_10_c(tmp_path / "b", count=20)
    assert shifted_test_sets.benchmark_digests(tmp_path / "a") != shifted_test_sets.benchmark_digests(tmp_path / "b")


def test_benchmarks_that_changed_after_the_plan_was_read_are_refused(tmp_path: Path) -> None:
    cifar_10_c(tmp_path)
    digests = shifted_test_sets.benchmark_digests(tmp_path)
    shifted_test_sets.require_unchanged(tmp_path, digests)
    np.save(tmp_path / "CIFAR-10-C" / "fog.npy", np.zeros((50, 32, 32, 3), dtype=np.uint8))
    with pytest.raises(TickdslError, match=r"cifar-10-c in .* changed after the plan was read"):
        shifted_test_sets.require_unchanged(tmp_path, digests)


@pytest.mark.parametrize("shape", [(50, 32, 32), (50, 16, 16, 3), (49, 32, 32, 3)])
def test_errors_name_invalid_files(tmp_path: Path, shape: tuple[int, ...]) -> None:
    cifar_10_c(tmp_path)
    np.save(tmp_path / "CIFAR-10-C" / "fog.npy", np.zeros(shape, dtype=np.uint8))
    with pytest.raises(TickdslError, match=r"fog\.npy"):
        list(shifted_test_sets.read_shifted_sets(tmp_path))


def test_figures_of_a_benchmark_have_its_name(tmp_path: Path, network: nn.Module, data: Dataset) -> None:
    test = shifted_test_sets.ShiftedTestSet("cifar-10-c", "fog", 1, data.test_inputs, data.test_targets)
    worse = attrs.evolve(test, severity=2, labels=(data.test_targets + 1) % 10)
    result = measure_robustness(network, data, device=CPU, shifted=[test, worse])
    assert result["robustness.cifar-10-c.fog.1"] == result["robustness.clean"]
    assert result["robustness.cifar-10-c"] == pytest.approx(
        (result["robustness.cifar-10-c.fog.1"] + result["robustness.cifar-10-c.fog.2"]) / 2
    )
