"""The test at the end of an epoch: in parallel with the next epoch's steps on a GPU, otherwise at once.

To test in parallel, the network is copied in full before the first test; before each later one, only its parameters
and buffers. If memory is short or the network cannot be copied, tests run at once.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from tickdsl.training.async_evaluation import AsyncEvaluator, EpochSums, async_evaluator


class EpochTester:
    """Tests one network with `evaluate`, which returns the task's sums, float64 [m] or [m, K].

    Wait for a test's sums before starting the next one. at_once: whether tests always run at once.
    """

    def __init__(
        self,
        network: nn.Module,
        evaluate: Callable[[nn.Module], Tensor],
        device: torch.device,
        *,
        at_once: bool = False,
    ) -> None:
        self._network, self._evaluate = network, evaluate
        self._async_evaluator = None if at_once else async_evaluator(device)
        self._snapshot: tuple[nn.Module, Tensor] | None = None

    def begin(self, loss_sum: Tensor) -> EpochSums:
        """Start testing the network with its current weights. loss_sum: the summed training loss, float64 [] or [K]."""
        if self._snapshot is None and self._async_evaluator is not None and not self._async_evaluator.has_memory():
            self._async_evaluator = None
        if self._async_evaluator is not None:
            try:
                return self._start_async(self._async_evaluator, loss_sum)
            except Exception:  # the network's own code may reject a copy; an error in the test itself recurs below
                self._async_evaluator = self._snapshot = None
        return EpochSums(self._sums(self._network, loss_sum).cpu())

    def _start_async(self, async_evaluator: AsyncEvaluator, loss_sum: Tensor) -> EpochSums:
        network, loss_sum_copy = self._update_snapshot(loss_sum)
        return async_evaluator(lambda: self._sums(network, loss_sum_copy))

    def _sums(self, network: nn.Module, loss_sum: Tensor) -> Tensor:
        return torch.cat([loss_sum.unsqueeze(0), self._evaluate(network)])

    def _update_snapshot(self, loss_sum: Tensor) -> tuple[nn.Module, Tensor]:
        """Copy the network and the loss into memory that training steps do not change."""
        if self._snapshot is None:
            self._snapshot = copy.deepcopy(self._network), loss_sum.clone()
        else:
            network, loss_sum_copy = self._snapshot
            loss_sum_copy.copy_(loss_sum)
            with torch.no_grad():
                for copied, source in zip(_tensors(network), _tensors(self._network), strict=True):
                    copied.copy_(source)
        return self._snapshot


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    return itertools.chain(network.parameters(), network.buffers())
