"""Knowledge distillation from a teacher network (Hinton, Vinyals & Dean 2015)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import attrs
import torch
from torch import Tensor, nn

from tickdsl.training.data.streaming.images import batches
from tickdsl.training.named_tensors import run_network
from tickdsl.training.tasks import CLASSIFY, Task

#: Batch size for precomputing the teacher's outputs; smaller if outputs are large.
_BATCH_SIZE = 1000
#: The most bytes of precomputed outputs; if a teacher has more, it runs on every batch.
_MAX_PRECOMPUTED_BYTES = 2 << 30


@attrs.frozen(eq=False)
class Distillation:
    """A teacher, and how strongly the student follows it, until optimiser step `until` (None: to the end).

    For classifiers, the loss is weight x temperature^2 x KL(teacher || student), with both logits divided by the
    temperature, averaged over the batch, plus (1 - weight) x cross-entropy. For other tasks, see `Task.distil`.
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

    def __init__(
        self, distillation: Distillation, device: torch.device, autocast: torch.dtype | None, task: Task = CLASSIFY
    ) -> None:
        self.distillation, self._task = distillation, task
        self._teacher = distillation.teacher.to(device).eval().requires_grad_(False)
        self._device, self._autocast = device, autocast
        self._precomputed: Tensor | None = None

    def active_at(self, step: int) -> bool:
        """Whether the student follows the teacher at an optimiser step."""
        return self.distillation.until is None or step < self.distillation.until

    def precompute(self, inputs: Tensor, preprocess: Callable[[Tensor], Tensor]) -> None:
        """Compute the teacher's outputs for all training inputs [N, …], used without augmentation, if they fit."""
        computed: list[Tensor] = []
        for batch in batches(inputs, self._task.evaluation_batch(inputs, _BATCH_SIZE)):
            computed.append(self._softened(preprocess(batch)))
            if len(inputs) * computed[0][0].nbytes > _MAX_PRECOMPUTED_BYTES:
                return
        self._precomputed = torch.cat(computed)

    def soft_targets(self, images: Tensor, indices: Tensor) -> Tensor:
        """What the student learns from the teacher for a batch, [B, …]: see `Task.soften`.

        images: normalised; indices: the images' indices in the training set.
        """
        if self._precomputed is not None:
            return self._precomputed.index_select(0, indices)
        return self._softened(images)

    def loss(self, outputs: Tensor, soft_targets: Tensor, loss: Tensor) -> Tensor:
        """The student's loss, from its outputs, the teacher's `soft_targets` and the loss of the targets."""
        temperature, weight = self.distillation.temperature, self.distillation.weight
        return self._task.distil(outputs, soft_targets, temperature, weight) + (1 - weight) * loss

    def _softened(self, images: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast(
            self._device.type, dtype=self._autocast, enabled=self._autocast is not None
        ):  # fmt: skip
            return self._task.soften(run_network(self._teacher, images), self.distillation.temperature)
