"""Evaluation on a GPU in parallel with training: started on a CUDA stream of its own, its sums read later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs
import torch
from torch import Tensor


class DeviceEvent(Protocol):
    """A point in a device's work, as `torch.cuda.Event`."""

    def query(self) -> bool:
        """Whether the device has reached it; does not wait."""

    def synchronize(self) -> None:
        """Wait until the device has reached it."""


@attrs.frozen(eq=False)
class EpochSums:
    """An epoch's summed training loss, followed by the m sums of the task over the test set.

    `values` is float64 [1 + m] on the CPU, or [1 + m, K] for K stacked networks; valid once `event`, if any, is
    reached.
    """

    values: Tensor
    event: DeviceEvent | None = None

    def ready(self) -> bool:
        """Whether the sums can be read without waiting."""
        return self.event is None or bool(self.event.query())

    def wait(self) -> list[float]:
        """Wait for the sums and return them."""
        if self.event is not None:
            self.event.synchronize()
        sums: list[float] = self.values.tolist()
        return sums

    def select(self, index: int) -> EpochSums:
        """The sums of one of K stacked networks."""
        return EpochSums(self.values[:, index], self.event)


class AsyncEvaluator(Protocol):
    """Runs an evaluation in parallel with the work that follows it."""

    def has_memory(self) -> bool:
        """Whether the device has memory for a copy of the network."""

    def __call__(self, work: Callable[[], Tensor]) -> EpochSums:
        """Start `work`, which returns the sums. Tensors that it reads must not change until the event is reached."""


def async_evaluator(device: torch.device) -> AsyncEvaluator | None:
    """The evaluator for `device`; None if evaluating in parallel gains nothing there."""
    return CudaStreamEvaluator(device) if device.type == "cuda" else None


class CudaStreamEvaluator:
    """Evaluates on a CUDA stream of its own. **Not run on a GPU yet**: the tests of `EpochTester` use a stand-in."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def has_memory(self) -> bool:
        # A copy that fits now, between two steps, must not make the next step run out of memory.
        fraction = torch.cuda.get_per_process_memory_fraction(self._device.index)
        total = torch.cuda.get_device_properties(self._device).total_memory
        return torch.cuda.max_memory_allocated(self._device) < fraction * total / 2

    def __call__(self, work: Callable[[], Tensor]) -> EpochSums:
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            sums = work()
            host_sums = torch.empty(sums.shape, dtype=sums.dtype, pin_memory=True)
            host_sums.copy_(sums, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        return EpochSums(host_sums, event)
