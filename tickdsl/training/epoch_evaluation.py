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


class Event(Protocol):
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
    event: Event | None = None

    def ready(self) -> bool:
        """Whether the sums have come."""
        return self.event is None or bool(self.event.query())

    def wait(self) -> list[float]:
        """The sums, when they have come."""
        if self.event is not None:
            self.event.synchronize()
        found: list[float] = self.values.tolist()
        return found

    def of(self, place: int) -> EpochSums:
        """Those of one of several networks."""
        return EpochSums(self.values[:, place], self.event)


class Beside(Protocol):
    """What does work beside what comes afterwards."""

    def room(self) -> bool:
        """Whether there is memory for that."""

    def __call__(self, work: Callable[[], Tensor]) -> EpochSums:
        """Begin; what `work` reads must stay as it is until the event that is given back."""


def beside(device: torch.device) -> Beside | None:
    """How work is done beside other work there; None where that gains nothing."""
    return OwnStream(device) if device.type == "cuda" else None


class OwnStream:
    """Work on a CUDA stream of its own. **This has not run on a GPU yet**: tests of `EpochTests` use a stand-in."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def room(self) -> bool:
        # A copy that fits now, between two steps, must not make the next one fail.
        share = torch.cuda.get_per_process_memory_fraction(self._device.index)
        whole = torch.cuda.get_device_properties(self._device).total_memory
        return torch.cuda.max_memory_allocated(self._device) < share * whole / 2

    def __call__(self, work: Callable[[], Tensor]) -> EpochSums:
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            sums = work()
            here = torch.empty(sums.shape, dtype=sums.dtype, pin_memory=True)
            here.copy_(sums, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        return EpochSums(here, event)


class EpochTests:
    """The tests of one network by `measure`, which gives the summed loss and right answers, float64 [2] or [2, K].

    Only one test is under way at a time: who begins another has waited for the one before.
    """

    def __init__(self, network: nn.Module, measure: Callable[[nn.Module], Tensor], device: torch.device) -> None:
        self._network, self._measure = network, measure
        self._beside = beside(device)
        self._copy: tuple[nn.Module, Tensor] | None = None

    def begin(self, loss_sum: Tensor) -> EpochSums:
        """Test the network as it is now. loss_sum: float64 [] or [K], what the training's steps summed."""
        if self._copy is None and self._beside is not None and not self._beside.room():
            self._beside = None
        if self._beside is not None:
            try:
                return self._begun(self._beside, loss_sum)
            except Exception:  # whatever a network's own code makes of a copy; a fault of the test's tells itself below
                self._beside = self._copy = None
        return EpochSums(self._sums(self._network, loss_sum).cpu())

    def _begun(self, beside: Beside, loss_sum: Tensor) -> EpochSums:
        network, losses = self._copied(loss_sum)
        return beside(lambda: self._sums(network, losses))

    def _sums(self, network: nn.Module, losses: Tensor) -> Tensor:
        return torch.cat([losses.unsqueeze(0), self._measure(network)])

    def _copied(self, loss_sum: Tensor) -> tuple[nn.Module, Tensor]:
        """The network and its loss as they are now, in memory that no step changes."""
        if self._copy is None:
            self._copy = copy.deepcopy(self._network), loss_sum.clone()
        else:
            network, losses = self._copy
            losses.copy_(loss_sum)
            with torch.no_grad():
                for mine, theirs in zip(_tensors(network), _tensors(self._network), strict=True):
                    mine.copy_(theirs)
        return self._copy


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    return itertools.chain(network.parameters(), network.buffers())
