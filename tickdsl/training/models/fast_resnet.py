"""A small residual network that learns much in few epochs, put together from what short trainings of CIFAR-10 use.

The plan of the network is that of airbench (Jordan 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU"): a 2x2
convolution whose filters decorrelate neighbouring pixels and channels, three stages of two convolutions, of which the
first halves the resolution by max pooling, global max pooling, and logits that are scaled down. Two things differ. The
filters of the stem are a fixed basis (`initialisation.haar_filters`) and batch norm, which gives its outputs unit
variance, instead of a basis computed from the images. And the second convolution of a stage has a shortcut around it,
where airbench initialises convolutions to the identity.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from tickdsl.training.models.widths import scaled

#: Logits are divided by this, so that a large learning rate of the last layer does not saturate the softmax.
LOGIT_DIVISOR = 9


class Stage(nn.Module):
    """A convolution, max pooling that halves the resolution, and a convolution with a shortcut around it.

    Batch norm comes after the pooling, where it has a quarter of the values to normalise.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        out = F.gelu(self.bn1(F.max_pool2d(self.conv1(x), 2)))
        return out + F.gelu(self.bn2(self.conv2(out)))


class FastResNet(nn.Module):
    """The stem, one stage per width, global max pooling and one linear layer."""

    def __init__(self, classes: int, channels: int, widths: list[int]) -> None:
        super().__init__()
        stem_width = 8 * channels  # each filter of the basis and its negative
        self.conv1 = nn.Conv2d(channels, stem_width, 2, bias=False)
        self.conv1.initial_basis = "haar"  # type: ignore[assignment]
        self.bn1 = nn.BatchNorm2d(stem_width)
        first, *others = widths
        self.stages = nn.Sequential(
            Stage(stem_width, first), *(Stage(*pair) for pair in zip(widths, others, strict=False))
        )
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.stages(F.gelu(self.bn1(self.conv1(x))))
        logits: Tensor = self.fc(F.adaptive_max_pool2d(out, 1).flatten(1))
        return logits / LOGIT_DIVISOR


def fast_resnet(classes: int, shape: tuple[int, int, int], width: float) -> nn.Module:
    """Build the network: three stages of 64, 192 and 256 channels, after a stem of 8 filters per input channel."""
    return FastResNet(classes, shape[0], [scaled(w, width) for w in (64, 192, 256)])
