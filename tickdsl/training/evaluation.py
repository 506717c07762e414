"""Loss and accuracy of a network on a test set."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tickdsl.training.data.augment import Normalise


@attrs.frozen
class EvaluationResult:
    """Mean cross-entropy (nats), accuracy in [0, 1], and the numbers of correct predictions and of images.

    correct_images: bool [N], which images are classified correctly; None if that was not asked for.
    """

    loss: float
    accuracy: float
    correct: int
    count: int
    correct_images: Tensor | None = attrs.field(default=None, eq=False, repr=False)


def evaluate(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    mean: Tensor,
    std: Tensor,
    device: torch.device | str = "cpu",
    batch: int = 1000,
    autocast: torch.dtype | None = None,
) -> EvaluationResult:
    """Evaluate `model` in eval mode, on `device`.

    images: uint8 [N, C, H, W]; labels: int64 [N]; mean, std: [C], for pixel values scaled to [0, 1].
    """
    device = torch.device(device)
    normalise = Normalise(mean, std, device)
    correct_images = torch.zeros(len(images), dtype=torch.bool, device=device)
    sums = evaluation_sums(
        model, images.to(device), labels.to(device), normalise, batch, autocast, correct_images=correct_images
    )
    result = evaluation_from_sums(sums.tolist(), len(images))
    return attrs.evolve(result, correct_images=correct_images.cpu())


def evaluation_sums(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    normalise: Normalise,
    batch: int,
    autocast: torch.dtype | None,
    num_networks: int | None = None,
    correct_images: Tensor | None = None,
) -> Tensor:
    """The summed loss and the number of correct predictions, float64 [2], on the device of `images`.

    The model is evaluated in eval mode and put back into the mode that it was in. num_networks: the number K of
    networks that the model stacks, with logits [B, K, classes]; the sums are then [2, K]. correct_images: bool [N] or
    [N, K], filled with whether each image is classified correctly.
    """
    was_training = model.training
    model.eval()
    sums = torch.zeros((2,) if num_networks is None else (2, num_networks), dtype=torch.float64, device=images.device)
    try:
        with torch.no_grad(), torch.autocast(images.device.type, dtype=autocast, enabled=autocast is not None):
            for first in range(0, len(images), batch):
                image_batch, label_batch = images[first : first + batch], labels[first : first + batch]
                logits = model(normalise(image_batch)).float()
                if num_networks is None:
                    sums[0] += F.cross_entropy(logits, label_batch, reduction="sum")
                    correct = logits.argmax(1) == label_batch
                else:
                    expanded_labels = label_batch.unsqueeze(1).expand(-1, num_networks)
                    losses = F.cross_entropy(logits.flatten(0, 1), expanded_labels.flatten(), reduction="none")
                    sums[0] += losses.view(expanded_labels.shape).sum(0)
                    correct = logits.argmax(2) == expanded_labels
                sums[1] += correct.sum(0)
                if correct_images is not None:
                    correct_images[first : first + batch] = correct
    finally:
        model.train(was_training)
    return sums


def evaluation_from_sums(sums: list[float], count: int) -> EvaluationResult:
    """The result for a summed loss and a number of correct predictions over `count` images."""
    return EvaluationResult(sums[0] / count, sums[1] / count, int(sums[1]), count)
