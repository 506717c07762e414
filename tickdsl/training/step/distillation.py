"""Learning from a teacher: the loss of Hinton, Vinyals & Dean 2015, with the teacher's answers as cheap as they get."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Pictures at a time where a teacher answers all of them beforehand.
_BATCH_SIZE = 1000


@attrs.frozen(eq=False)
class Distillation:
    """A teacher, and how much is learned from it until optimiser step `until` (None: to the end).

    The loss is weight x temperature^2 x KL(teacher || student) of answers softened by the temperature, a mean over the
    batch, plus (1 - weight) x cross-entropy.
    """

    teacher: nn.Module
    temperature: float
    weight: float
    until: int | None = None

    def identity(self) -> str:
        """A digest of all that decides what is learned."""
        facts = [self.temperature, self.weight, self.until]
        digest = hashlib.sha256(repr(facts).encode())
        for name, tensor in sorted(self.teacher.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


class Distiller:
    """Distillation on a device. Where pictures are never altered, the teacher answers each of them once, beforehand.

    The teacher answers in eval mode, without gradients; its answers do not depend on when a training was resumed.
    """

    def __init__(self, distillation: Distillation, device: torch.device, autocast: torch.dtype | None) -> None:
        self.distillation = distillation
        self._teacher = distillation.teacher.to(device).eval().requires_grad_(False)
        self._device, self._autocast = device, autocast
        self._precomputed: Tensor | None = None

    def active_at(self, step: int) -> bool:
        """Whether the teacher is followed at an optimiser step."""
        return self.distillation.until is None or step < self.distillation.until

    def precompute(self, images: Tensor, normalise: Callable[[Tensor], Tensor]) -> None:
        """Let the teacher answer all pictures (uint8 [N, C, H, W]) now: they come unaltered."""
        self._precomputed = torch.cat(
            [self._teacher_log_probs(normalise(batch)) for batch in torch.split(images, _BATCH_SIZE)]
        )

    def soft_targets(self, images: Tensor, indices: Tensor) -> Tensor:
        """Log-probabilities [B, classes] of a batch, softened; `indices` are its places in the training set."""
        if self._precomputed is not None:
            return self._precomputed.index_select(0, indices)
        return self._teacher_log_probs(images)

    def loss(self, student_logits: Tensor, soft_targets: Tensor, cross_entropy: Tensor) -> Tensor:
        """The student's loss from its scores, the teacher's answers and the cross-entropy."""
        temperature, weight = self.distillation.temperature, self.distillation.weight
        student_log_probs = F.log_softmax(student_logits.float() / temperature, dim=1)
        kl_divergence = F.kl_div(student_log_probs, soft_targets, reduction="batchmean", log_target=True)
        return weight * temperature**2 * kl_divergence + (1 - weight) * cross_entropy

    def _teacher_log_probs(self, images: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast(
            self._device.type, dtype=self._autocast, enabled=self._autocast is not None
        ):  # fmt: skip
            return F.log_softmax(self._teacher(images).float() / self.distillation.temperature, dim=1)
