"""The evidence lower bound against torch's distributions and a Monte Carlo estimate, and the reconstruction error."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from generated_images import digits, network
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributions
from torch.nn import functional as F

from tickdsl.training.evaluation import evaluate
from tickdsl.training.job import TrainingJob
from tickdsl.training.loop import train
from tickdsl.training.measured_choices import InMemoryChoices
from tickdsl.training.models.generative import VaeOutputs
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.stacked.eligibility import stacking_obstacle
from tickdsl.training.step.distillation import Distillation
from tickdsl.training.tasks import BadTargets, Reconstruct, Vae

TASK = Vae()


def _outputs(seed: int, count: int = 5, beta: float = 1.0) -> tuple[VaeOutputs, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits, mean, log_variance = (torch.randn(count, *shape, generator=generator) for shape in ((1, 4, 4), (3,), (3,)))
    targets = torch.randint(0, 256, (count, 1, 4, 4), generator=generator, dtype=torch.uint8)
    return VaeOutputs(logits, mean, log_variance, torch.full((count,), beta)), targets


def _bound(outputs: VaeOutputs, targets: torch.Tensor) -> torch.Tensor:
    """The bound of each image, by torch's distributions."""
    posterior = distributions.Normal(outputs.mean, torch.exp(outputs.log_variance / 2))
    prior = distributions.Normal(torch.zeros_like(outputs.mean), 1.0)
    pixels = distributions.Bernoulli(logits=outputs.logits, validate_args=False)
    likelihood = pixels.log_prob(targets / 255).sum((1, 2, 3))
    return likelihood - distributions.kl_divergence(posterior, prior).sum(1)


@given(st.integers(0, 1000), st.integers(1, 4), st.floats(0, 20))
@settings(deadline=None, max_examples=30)
def test_the_bound_is_that_of_distributions_whatever_the_batches(seed: int, cut: int, beta: float) -> None:
    outputs, targets = _outputs(seed, beta=beta)
    parts = (slice(0, cut), slice(cut, None))
    sums = sum(TASK.sums(VaeOutputs(*(tensor[part] for tensor in outputs)), targets[part]) for part in parts)
    figures = TASK.figures(sums.tolist(), len(targets))
    expected = _bound(outputs, targets)
    assert figures["elbo"] == pytest.approx(float(expected.mean()), rel=1e-5)
    assert torch.allclose(TASK.scores(outputs, targets), expected, rtol=1e-5)
    assert figures["elbo"] == pytest.approx(-figures["cross-entropy"] - figures["kl"])
    assert figures["loss"] == pytest.approx(float(TASK.loss(outputs, targets)), rel=1e-5)
    assert figures["loss"] == pytest.approx(figures["cross-entropy"] + beta * figures["kl"], rel=1e-5)
    assert figures["mse"] == pytest.approx(float(F.mse_loss(torch.sigmoid(outputs.logits), targets / 255)), rel=1e-5)


def test_the_divergence_is_the_mean_of_its_monte_carlo_estimate() -> None:
    outputs, targets = _outputs(3)
    posterior = distributions.Normal(outputs.mean, torch.exp(outputs.log_variance / 2))
    prior = distributions.Normal(0.0, 1.0)
    torch.manual_seed(0)
    codes = posterior.sample((100_000,))
    estimate = (posterior.log_prob(codes) - prior.log_prob(codes)).sum(2).mean(0)
    assert TASK.figures(TASK.sums(outputs, targets).tolist(), len(targets))["kl"] == pytest.approx(
        float(estimate.mean()), rel=0.01
    )


def test_outputs_without_a_beta_have_a_beta_of_1() -> None:
    outputs, targets = _outputs(1)
    assert torch.equal(TASK.loss(outputs[:3], targets), TASK.loss(outputs, targets))
    assert torch.equal(TASK.sums(outputs[:3], targets), TASK.sums(outputs, targets))


def test_chance_is_the_best_constant_answer() -> None:
    targets = digits("vae").test_targets
    mean = (targets / 255.0).mean(0, keepdim=True).expand(len(targets), -1, -1, -1)
    constant = VaeOutputs(torch.logit(mean.clamp(1e-6, 1 - 1e-6)), *(torch.zeros(len(targets), 2),) * 2, torch.ones(1))
    assert TASK.chance(targets) == pytest.approx(
        TASK.figures(TASK.sums(constant, targets).tolist(), len(targets))["elbo"], rel=1e-4
    )
    assert Reconstruct().chance(targets) == pytest.approx(float(F.mse_loss(mean, targets / 255)), rel=1e-5)


@pytest.mark.parametrize("name", ["vae", "conv-vae"])
def test_a_test_has_the_same_noise_each_time_and_a_training_goes_on_with_its_own(name: str) -> None:
    data, model = digits("vae"), network(name)
    torch.manual_seed(5)
    first, drawn = (
        evaluate(model, data.test_inputs, data.test_targets, preprocess=data.preprocess(), task=data.task)
        for _ in range(2)
    )
    after = torch.rand(1)
    torch.manual_seed(5)
    assert first.figures == drawn.figures and torch.rand(1) == after


def test_beta_weighs_the_divergence_in_training() -> None:
    data, recipe = digits("vae"), Recipe(length="20ep", lr=0.003, batch=20, optimizer="adam")
    kl = [
        train(network("vae", beta=beta), data, recipe, seed=0).last.figures["kl"]  # type: ignore[union-attr]
        for beta in (0.1, 10.0)
    ]
    assert kl[0] > 2 * kl[1]


def test_trainings_learn_beyond_chance() -> None:
    recipe = Recipe(length="30ep", lr=0.005, batch=20, optimizer="adam")
    for name, task in (("autoencoder", "reconstruct"), ("conv-autoencoder", "reconstruct"), ("conv-vae", "vae")):
        data = digits(task, 600)
        last = train(network(name, latent=8), data, recipe, seed=0).last
        assert last is not None
        score, chance = last.figures[data.task.primary.name], data.task.chance(data.test_targets)
        assert chance is not None and data.task.primary.is_better(score, chance), (name, score, chance)


def test_a_student_follows_the_reconstruction_of_a_teacher() -> None:
    data, recipe = digits("vae"), Recipe(length="2ep", lr=0.003, batch=20, optimizer="adam")
    lessons = []
    for weight in (0.1, 0.9):
        student = network("vae", seed=1)
        train(student, data, recipe, seed=0, distillation=Distillation(network("vae"), 2.0, weight))
        lessons.append(student.decoder.fc1.weight.detach().clone())  # type: ignore[union-attr]
    assert not torch.equal(*lessons)


def test_networks_with_noise_are_not_stacked_and_autoencoders_are() -> None:
    recipe = Recipe(length="1ep", lr=0.003, batch=20, optimizer="adam")

    def obstacle(name: str, task: str) -> str | None:
        jobs = [TrainingJob(model=network(name, seed), data=digits(task), recipe=recipe, seed=seed) for seed in (0, 1)]
        return stacking_obstacle(jobs, InMemoryChoices(), torch.device("cpu"))

    assert obstacle("autoencoder", "reconstruct") is None
    assert "random" in (obstacle("vae", "vae") or "")


@pytest.mark.parametrize("task", [Reconstruct(), Vae()])
def test_targets_are_images(task: Reconstruct | Vae) -> None:
    images = np.zeros((2, 1, 4, 4), np.uint8)
    assert task.as_targets(images, ()) is images
    for wrong in (images.astype(np.float32), images[:, 0]):
        with pytest.raises(BadTargets, match="is "):
            task.as_targets(wrong, ())


def test_pictures_are_rows_of_images_and_rows_of_their_reconstructions() -> None:
    targets = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(10, 1, 2, 2)
    pictures = Reconstruct().pictures(targets.float() / 255, targets)
    assert pictures[:, 0, 0, 0].tolist() == [*range(8), *range(8), 8, 9, 8, 9]
