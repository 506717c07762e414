"""Learning from a teacher: the loss of Hinton, Vinyals & Dean 2015, with the teacher's answers as cheap as they get."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Pictures at a time where a teacher answers all of them beforehand.
_BATCH = 1000


@attrs.frozen(eq=False)
class Lesson:
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


class Teaching:
    """A lesson on one device. Where pictures are never altered, the teacher answers each of them once, beforehand.

    The teacher answers in eval mode, without gradients; its answers do not depend on when a training was resumed.
    """

    def __init__(self, lesson: Lesson, device: torch.device, autocast: torch.dtype | None) -> None:
        self.lesson = lesson
        self._teacher = lesson.teacher.to(device).eval().requires_grad_(False)
        self._device, self._autocast = device, autocast
        self._answers: Tensor | None = None

    def at(self, step: int) -> bool:
        """Whether the lesson goes on at an optimiser step."""
        return self.lesson.until is None or step < self.lesson.until

    def prepare(self, pictures: Tensor, normalise: Callable[[Tensor], Tensor]) -> None:
        """Let the teacher answer all pictures (uint8 [N, C, H, W]) now: they come unaltered."""
        self._answers = torch.cat([self._softened(normalise(part)) for part in torch.split(pictures, _BATCH)])

    def answers(self, pictures: Tensor, chosen: Tensor) -> Tensor:
        """Log-probabilities [B, classes] of a batch, softened; `chosen` are its indices in the training set."""
        if self._answers is not None:
            return self._answers.index_select(0, chosen)
        return self._softened(pictures)

    def loss(self, scores: Tensor, taught: Tensor, plain: Tensor) -> Tensor:
        """The student's loss from its scores, the teacher's answers and the cross-entropy."""
        temperature, weight = self.lesson.temperature, self.lesson.weight
        student = F.log_softmax(scores.float() / temperature, dim=1)
        apart = F.kl_div(student, taught, reduction="batchmean", log_target=True)
        return weight * temperature**2 * apart + (1 - weight) * plain

    def _softened(self, pictures: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast(
            self._device.type, dtype=self._autocast, enabled=self._autocast is not None
        ):  # fmt: skip
            return F.log_softmax(self._teacher(pictures).float() / self.lesson.temperature, dim=1)
