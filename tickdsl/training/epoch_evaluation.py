"""The test at an epoch's end: at once, or on a GPU beside the steps of the next epoch.

There a copy of the network is tested on a stream of its own, and the training goes on meanwhile: its sums are asked for
once they have come. Copied are parameters and buffers, anew for each test, and all else at the first. Where memory is
short or a network cannot be copied, tests are done at once.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from typing import Protocol

import attrs
import torch
from torch import Tensor, nn


class DeviceEvent(Protocol):
    """What comes to pass on a device, as torch's events."""

    def query(self) -> bool:
        """Whether it has; waits for nothing."""

    def synchronize(self) -> None:
        """Wait until it has."""


@attrs.frozen(eq=False)
class EpochSums:
    """An epoch's sums: of the loss in training, of the loss in the test, and the right answers there.

    `values` is float64 [3] on the CPU, of K networks in one [3, K]; filled once `event` has come, where there is one.
    """

    values: Tensor
    event: DeviceEvent | None = None

    def ready(self) -> bool:
        """Whether the sums have come."""
        return self.event is None or bool(self.event.query())

    def wait(self) -> list[float]:
        """The sums, when they have come."""
        if self.event is not None:
            self.event.synchronize()
        sums: list[float] = self.values.tolist()
        return sums

    def select(self, index: int) -> EpochSums:
        """Those of one of several networks."""
        return EpochSums(self.values[:, index], self.event)


class AsyncEvaluator(Protocol):
    """What does work beside what comes afterwards."""

    def has_memory(self) -> bool:
        """Whether there is memory for that."""

    def __call__(self, work: Callable[[], Tensor]) -> EpochSums:
        """Begin; what `work` reads must stay as it is until the event that is given back."""


def async_evaluator(device: torch.device) -> AsyncEvaluator | None:
    """How work is done beside other work there; None where that gains nothing."""
    return CudaStreamEvaluator(device) if device.type == "cuda" else None


class CudaStreamEvaluator:
    """Work on a CUDA stream of its own. **This has not run on a GPU yet**: tests of `EpochTester` use a stand-in."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def has_memory(self) -> bool:
        # A copy that fits now, between two steps, must not make the next one fail.
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


class EpochTester:
    """The tests of one network by `evaluate`, which gives the summed loss and right answers, float64 [2] or [2, K].

    Only one test is under way at a time: who begins another has waited for the one before.
    """

    def __init__(self, network: nn.Module, evaluate: Callable[[nn.Module], Tensor], device: torch.device) -> None:
        self._network, self._evaluate = network, evaluate
        self._async_evaluator = async_evaluator(device)
        self._snapshot: tuple[nn.Module, Tensor] | None = None

    def begin(self, loss_sum: Tensor) -> EpochSums:
        """Test the network as it is now. loss_sum: float64 [] or [K], what the training's steps summed."""
        if self._snapshot is None and self._async_evaluator is not None and not self._async_evaluator.has_memory():
            self._async_evaluator = None
        if self._async_evaluator is not None:
            try:
                return self._start_async(self._async_evaluator, loss_sum)
            except Exception:  # whatever a network's own code makes of a copy; a fault of the test's tells itself below
                self._async_evaluator = self._snapshot = None
        return EpochSums(self._sums(self._network, loss_sum).cpu())

    def _start_async(self, async_evaluator: AsyncEvaluator, loss_sum: Tensor) -> EpochSums:
        network, losses = self._update_snapshot(loss_sum)
        return async_evaluator(lambda: self._sums(network, losses))

    def _sums(self, network: nn.Module, losses: Tensor) -> Tensor:
        return torch.cat([losses.unsqueeze(0), self._evaluate(network)])

    def _update_snapshot(self, loss_sum: Tensor) -> tuple[nn.Module, Tensor]:
        """The network and its loss as they are now, in memory that no step changes."""
        if self._snapshot is None:
            self._snapshot = copy.deepcopy(self._network), loss_sum.clone()
        else:
            network, losses = self._snapshot
            losses.copy_(loss_sum)
            with torch.no_grad():
                for mine, theirs in zip(_tensors(network), _tensors(self._network), strict=True):
                    mine.copy_(theirs)
        return self._snapshot


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    return itertools.chain(network.parameters(), network.buffers())
