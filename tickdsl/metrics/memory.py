"""Peak memory of inference and of a training step.

On CUDA, this is the allocator's peak. On a CPU, it is the largest total size of tensors that are alive at the same
time, without the temporary memory of kernels.
"""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from tickdsl.dispatch_mode import DispatchMode
from tickdsl.training.named_tensors import run_network, tensors_of, zeros_like_batch
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.step import optimisers
from tickdsl.training.tasks import CLASSIFY, Loss, Task

MEMORY = "memory"
#: Adam and momentum create their state in the first step, so memory peaks in the second.
_STEPS = 2


def measure_memory(
    model: nn.Module,
    images: Tensor,
    recipe: Recipe,
    *,
    device: torch.device,
    autocast: torch.dtype | None = None,
    target: Tensor | None = None,
    task: Task = CLASSIFY,
) -> dict[str, float]:
    """Measure peak memory, in bytes.

    `memory` is the peak of a forward pass on `images` [N, C, H, W]. It includes the network (`memory.parameters`, with
    buffers) and the images and activations (`memory.activations`). `memory.batch` is N. `memory.training` is the peak
    of a training step of the recipe on `memory.training.batch` images, including gradients and optimiser state, with
    targets like `target` (default: a class). `model` is left in eval mode on `device`.
    """
    model.to(device).eval()
    model_bytes = sum(tensor.numel() * tensor.element_size() for tensor in (*model.parameters(), *model.buffers()))
    images = images.to(device)

    def classify() -> None:
        with torch.no_grad(), torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
            run_network(model, images)

    activation_bytes = _peak_bytes(classify, device)
    target = torch.zeros((), dtype=torch.long) if target is None else target
    training_bytes = model_bytes + _training_bytes(model, images, target, task.loss, recipe, device, autocast)
    image_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors_of(images))
    return {
        MEMORY: model_bytes + image_bytes + activation_bytes,
        f"{MEMORY}.parameters": model_bytes,
        f"{MEMORY}.activations": image_bytes + activation_bytes,
        f"{MEMORY}.batch": len(images),
        f"{MEMORY}.training": training_bytes,
        f"{MEMORY}.training.batch": recipe.batch,
    }


def _training_bytes(
    model: nn.Module,
    example: Tensor,
    target: Tensor,
    compute_loss: Loss,
    recipe: Recipe,
    device: torch.device,
    autocast: torch.dtype | None,
) -> int:
    """The peak memory of a training step, without the network."""
    model_copy = copy.deepcopy(model).train().requires_grad_(True)
    parameters = list(model_copy.parameters())

    def train_steps() -> None:
        images = zeros_like_batch(example, recipe.batch, device)
        targets = torch.zeros(recipe.batch, *target.shape, dtype=target.dtype, device=device)
        optimizer = optimisers.build(parameters, recipe)
        for _ in range(_STEPS):
            with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
                loss = compute_loss(run_network(model_copy, images), targets)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        optimizer.zero_grad()  # a second call starts without gradients, like the first

    return _peak_bytes(train_steps, device)


def _peak_bytes(work: Callable[[], None], device: torch.device) -> int:
    """The peak of the memory that `work` allocates, above what was allocated before."""
    if device.type == "cuda":
        work()  # libraries allocate memory on first use, and keep it
        gc.collect()
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return int(torch.cuda.max_memory_allocated(device)) - before
    with _LiveStorageCounter() as counter:
        work()
    peak: int = counter.peak
    return peak


class _LiveStorageCounter(DispatchMode):
    """Counts the bytes of the storages that operators allocate, until they are freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.current = self.peak = 0
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # Storages of the arguments existed before, or are counted already.
        existing = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in existing:
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return

        def freed(_: object) -> None:
            del self._known[key]
            self.current -= size

        self._known[key] = weakref.ref(storage, freed)
        self.current += size
        self.peak = max(self.peak, self.current)
