"""What files hold of a network that generates images: its generator, which makes images of noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from tickdsl.errors import TickdslError
from tickdsl.training.evaluation import same_noise
from tickdsl.training.tasks import Generate, Outputs, Task
from tickdsl.training.tasks.frechet import moment_sums
from tickdsl.training.tasks.pixels import to_bytes

#: The part that files hold, and their input and output.
PART, NOISE, IMAGES = "generator", "z", "images"
#: As many images are made at once as in a test of a run, so that the noise is the same.
_BATCH = 1000


class ImageGenerator(nn.Module):
    """The generator of a network of the task `generate`, from noise [N, latent] to images [N, C, H, W] in [0, 1].

    raw: leave the images as the generator makes them, in [-1, 1].
    """

    def __init__(self, network: nn.Module, *, raw: bool = False) -> None:
        super().__init__()
        self.generator, self.raw = network.get_submodule(PART), raw

    def forward(self, z: Tensor) -> Tensor:
        """Images of noise."""
        images: Tensor = self.generator(z)
        return images if self.raw else ((images + 1) / 2).clamp(0, 1)


def unscaled(images: Tensor, *, raw: bool) -> Tensor:
    """The images of a file in [-1, 1], as the generator makes them."""
    return images if raw else 2 * images - 1


class JudgedImages(Generate):
    """The task of a generator alone: outputs are images [B, C, H, W] in [-1, 1], which have a distance and no loss."""

    metrics = Generate.metrics[:1]  # type: ignore[assignment]

    def chance(self, targets: Tensor) -> float | None:
        return None

    def loss(self, outputs: Outputs, targets: Tensor) -> Tensor:
        raise TickdslError("a generator without its discriminator has no loss", "judge it by the distance")

    def sums(self, outputs: Outputs, targets: Tensor) -> Tensor:
        sums = [moment_sums(self.features(images)) for images in (to_bytes((outputs + 1) / 2), targets)]
        return torch.cat([sums[0].new_zeros(1), *sums])

    def figures(self, sums: Sequence[float], count: int) -> Mapping[str, float]:
        return {**super().figures(sums, count), "loss": float("nan")}

    def pictures(self, outputs: Outputs, targets: Tensor) -> Tensor:
        return to_bytes((outputs + 1) / 2)


def judged_alone(task: Task) -> Task:
    """The task by which a file with a generator is judged, with the features of `task`."""
    assert isinstance(task, Generate)
    return JudgedImages(task.known_features)


def latent_of(network: nn.Module) -> int:
    """The number of values that a network makes an image of."""
    latent = getattr(network, "latent", None)
    if not isinstance(latent, int):
        raise TickdslError(
            "a network that generates images needs the attribute `latent`, the number of values that it makes one of",
            "set `self.latent` in its constructor",
        )
    return latent


def test_noise(latent: int, count: int, task: Task) -> Tensor:
    """The noise [count, latent] of a test, that of `dcgan` in a run on a CPU."""
    with same_noise(task, torch.device("cpu")):
        return torch.cat([torch.randn(min(_BATCH, count - first), latent) for first in range(0, count, _BATCH)])


test_noise.__test__ = False  # type: ignore[attr-defined]
