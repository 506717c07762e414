"""Generating images: a generator and a discriminator, trained in turn (Goodfellow et al. 2014)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from tickdsl.errors import TickdslError
from tickdsl.training.tasks.frechet import Moments, frechet_distance, moment_sums
from tickdsl.training.tasks.phases import Phase
from tickdsl.training.tasks.pixels import as_images, to_bytes
from tickdsl.training.tasks.protocol import Outputs, Task, TaskMetric

#: The features [N, D] of images, uint8 [N, C, H, W], on their device.
Features = Callable[[Tensor], Tensor]
#: The Fréchet distance in the features of a classifier that is trained on the same data; it is not the FID.
DISTANCE = "frechet-distance"


class Generate(Task):
    """Outputs are a tuple (generated images [B, C, H, W], the discriminator's logits for real and for generated ones).

    Images lie in [-1, 1]. The network has a part `generator`, which makes images of noise [B, latent], a part
    `discriminator`, and the number `latent`. The losses are the non-saturating ones: -log D(x) - log(1 - D(G(z))) for
    the discriminator and -log D(G(z)) for the generator.

    Images are judged by the Fréchet distance of their features from those of the test images. The features are those
    of a classifier that is trained on the labels of the same data (see `classifier_features`), so that the distance is
    comparable on one data set only; it is not the FID, which has Inception's features. As many images are generated as
    there are test images, and rounded to uint8. The distance of few images is too large, by more the fewer they are.
    """

    name = "generate"
    metrics = (TaskMetric(DISTANCE, higher_is_better=False), TaskMetric("loss", higher_is_better=False, unit="nats"))
    learns_from_inputs = True
    draws_in_tests = True
    pixel_statistics = (0.5, 0.5)

    def __init__(self, features: Features | None = None) -> None:
        self._features = features

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (
            Phase("discriminator", "discriminator", discriminator_loss),
            Phase("generator", "generator", generator_loss),
        )

    @property
    def known_features(self) -> Features | None:
        """What images are judged by; None if there is nothing yet."""
        return self._features

    @property
    def features(self) -> Features:
        """What images are judged by. Raises TickdslError if there is nothing."""
        if self._features is None:
            raise TickdslError(
                "generated images are judged in the features of a classifier, and there is none here",
                "judge them in a run, or with `tickdsl evaluate FILE --on DATA`",
            )
        return self._features

    def with_features(self, features: Features) -> Generate:
        """The task with features to judge images by."""
        return Generate(features)

    def as_targets(self, targets: NDArray[Any], names: Sequence[str]) -> NDArray[Any]:
        return as_images(targets)

    def chance(self, targets: Tensor) -> float | None:
        """The least distance of a generator that makes one and the same image: the test features' total variance."""
        if self._features is None:
            return None
        total = torch.stack([moment_sums(self._features(images)) for images in torch.split(targets, 1000)]).sum(0)
        return float(Moments.from_sums(total.tolist(), len(targets)).covariance.trace())

    def loss(self, outputs: Outputs, targets: Tensor) -> Tensor:
        """The sum of both losses, in a test."""
        _, real, fake = outputs
        return _discriminator(real, fake) + _generator(fake)

    def sums(self, outputs: Outputs, targets: Tensor) -> Tensor:
        """The summed losses, and the sums of the features of generated images and of test images."""
        generated, features = to_bytes((outputs[0] + 1) / 2), self.features
        loss = self.loss(outputs, targets).double() * len(targets)
        return torch.cat([loss.unsqueeze(0), moment_sums(features(generated)), moment_sums(features(targets))])

    def figures(self, sums: Sequence[float], count: int) -> Mapping[str, float]:
        half = (len(sums) - 1) // 2
        generated, real = (Moments.from_sums(part, count) for part in (sums[1 : 1 + half], sums[1 + half :]))
        return {DISTANCE: frechet_distance(generated, real), "loss": sums[0] / count}

    def soften(self, outputs: Outputs, temperature: float) -> Tensor:
        raise TickdslError("a network that generates images cannot learn from a teacher", "leave out `distill`")

    def pictures(self, outputs: Outputs, targets: Tensor) -> Tensor:
        """Generated images."""
        return to_bytes((outputs[0] + 1) / 2)


def discriminator_loss(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """-log D(x) - log(1 - D(G(z))), averaged over a batch of images and as many generated ones."""
    with torch.no_grad():
        generated = _generate(network, images)
    discriminate = network.get_submodule("discriminator")
    return _discriminator(discriminate(images), discriminate(generated))


def generator_loss(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """-log D(G(z)), averaged over as many generated images as the batch has."""
    return _generator(network.get_submodule("discriminator")(_generate(network, images)))


def _generate(network: nn.Module, images: Tensor) -> Tensor:
    """As many generated images as there are `images`, from noise drawn by torch's generators."""
    latent = getattr(network, "latent", None)
    if not isinstance(latent, int):
        raise TickdslError(
            "a network that generates images needs the attribute `latent`, the number of values that it makes one of",
            "set `self.latent` in its constructor",
        )
    noise = torch.randn(len(images), latent, dtype=images.dtype, device=images.device)
    generated: Tensor = network.get_submodule("generator")(noise)
    return generated


def _discriminator(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real.float()).mean() + F.softplus(fake.float()).mean()


def _generator(fake: Tensor) -> Tensor:
    return F.softplus(-fake.float()).mean()
