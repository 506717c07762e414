"""Knowledge distillation from a teacher network (Hinton, Vinyals & Dean 2015)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Batch size for precomputing the teacher's outputs.
_BATCH_SIZE = 1000


@attrs.frozen(eq=False)
class Distillation:
    """A teacher, and how strongly the student follows it, until optimiser step `until` (None: to the end).

    The loss is weight x temperature^2 x KL(teacher || student), with both logits divided by the temperature, averaged
    over the batch, plus (1 - weight) x cross-entropy.
    """

    teacher: nn.Module
    temperature: float
    weight: float
    until: int | None = None

    def identity(self) -> str:
        """The SHA-256 of the teacher's weights and the settings."""
        settings = [self.temperature, self.weight, self.until]
        digest = hashlib.sha256(repr(settings).encode())
        for name, tensor in sorted(self.teacher.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


class Distiller:
    """Distillation on a device. Without augmentation, the teacher's outputs can be computed once, in advance.

    The teacher runs in eval mode, without gradients, so that its outputs do not depend on when a training was resumed.
    """

    def __init__(self, distillation: Distillation, device: torch.device, autocast: torch.dtype | None) -> None:
        self.distillation = distillation
        self._teacher = distillation.teacher.to(device).eval().requires_grad_(False)
        self._device, self._autocast = device, autocast
        self._precomputed: Tensor | None = None

    def active_at(self, step: int) -> bool:
        """Whether the student follows the teacher at an optimiser step."""
        return self.distillation.until is None or step < self.distillation.until

    def precompute(self, images: Tensor, normalise: Callable[[Tensor], Tensor]) -> None:
        """Compute the teacher's outputs for all training images (uint8 [N, C, H, W]), used without augmentation."""
        self._precomputed = torch.cat(
            [self._teacher_log_probs(normalise(batch)) for batch in torch.split(images, _BATCH_SIZE)]
        )

    def soft_targets(self, images: Tensor, indices: Tensor) -> Tensor:
        """The teacher's log-probabilities [B, classes] for a batch, softened by the temperature.

        images: normalised; indices: the images' indices in the training set.
        """
        if self._precomputed is not None:
            return self._precomputed.index_select(0, indices)
        return self._teacher_log_probs(images)

    def loss(self, student_logits: Tensor, soft_targets: Tensor, cross_entropy: Tensor) -> Tensor:
        """The student's loss, from its logits, the teacher's `soft_targets` and the cross-entropy with the labels."""
        temperature, weight = self.distillation.temperature, self.distillation.weight
        student_log_probs = F.log_softmax(student_logits.float() / temperature, dim=1)
        kl_divergence = F.kl_div(student_log_probs, soft_targets, reduction="batchmean", log_target=True)
        return weight * temperature**2 * kl_divergence + (1 - weight) * cross_entropy

    def _teacher_log_probs(self, images: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast(
            self._device.type, dtype=self._autocast, enabled=self._autocast is not None
        ):  # fmt: skip
            return F.log_softmax(self._teacher(images).float() / self.distillation.temperature, dim=1)
