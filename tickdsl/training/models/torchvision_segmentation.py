"""torchvision's networks for segmentation, which return their logits themselves.

Loading this module loads torchvision.
"""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.segmentation import FCN, DeepLabV3

#: As in torchvision's weights, which are for the classes of Pascal VOC.
_NUM_CLASSES = 21


class FCNLogits(FCN):  # type: ignore[misc]  # torchvision is not typed
    """A fully convolutional network that maps images [B, 3, H, W] to logits [B, classes, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        """The logits, without the dictionary around them."""
        logits: Tensor = super().forward(x)["out"]
        return logits


class DeepLabV3Logits(DeepLabV3):  # type: ignore[misc]
    """DeepLabV3 that maps images [B, 3, H, W] to logits [B, classes, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        """The logits, without the dictionary around them."""
        logits: Tensor = super().forward(x)["out"]
        return logits


def build(name: str) -> nn.Module:
    """The network `name` of torchvision's registry with random weights, 21 classes and no auxiliary classifier.

    Its modules have the names that they have in torchvision.
    """
    network = get_model(name, weights=None, weights_backbone=None, num_classes=_NUM_CLASSES, aux_loss=None)
    kind = FCNLogits if isinstance(network, FCN) else DeepLabV3Logits
    return kind(network.backbone, network.classifier, None)
