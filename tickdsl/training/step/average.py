"""The moving average of a network's weights, which is evaluated and kept instead of the weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """The exponential moving average of the weights, and of the averages of batch norm (Polyak & Juditsky 1992).

    After update n it is d x average + (1 - d) x weights with d = min(decay, (1 + n) / (10 + n)), so that a short
    training forgets its initial weights too; the formula is that of TensorFlow's `ExponentialMovingAverage`. All its
    tensors stay in place, since a CUDA graph changes them.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        tensors = [*model.parameters(), *model.buffers()]
        self._live = [tensor.detach() for tensor in tensors if tensor.is_floating_point()]
        self._parameters = sum(parameter.is_floating_point() for parameter in model.parameters())
        self._averages = [tensor.clone() for tensor in self._live]
        self._updates = torch.zeros((), device=self._live[0].device)

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now. A weight that is always zero keeps the average zero, exactly."""
        self._updates.add_(1)
        decay = ((1 + self._updates) / (10 + self._updates)).clamp(max=self._decay)
        differences = torch._foreach_sub(self._live, self._averages)
        torch._foreach_mul_(differences, 1 - decay)
        torch._foreach_add_(self._averages, differences)

    @torch.no_grad()
    def forget_zeros(self) -> None:
        """Set the average of every weight to zero that is exactly zero itself: it was pruned, or set to zero."""
        for live, average in list(zip(self._live, self._averages, strict=True))[: self._parameters]:
            average.mul_(live != 0)

    @contextmanager
    def in_network(self) -> Iterator[None]:
        """Within this context, the network has the averages as its weights."""
        weights = [tensor.clone() for tensor in self._live]
        self.put_into_network()
        try:
            yield
        finally:
            torch._foreach_copy_(self._live, weights)

    @torch.no_grad()
    def put_into_network(self) -> None:
        """Replace the weights of the network by the averages."""
        torch._foreach_copy_(self._live, self._averages)

    def mutated(self) -> Iterable[Tensor]:
        """The tensors that an update changes."""
        return [*self._averages, self._updates]

    def state_dict(self) -> dict[str, Any]:
        """The averages, in the order of the network's tensors, and how often they were updated."""
        return {"averages": list(self._averages), "updates": self._updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for average, value in zip(self._averages, state["averages"], strict=True):
            average.copy_(value)
        self._updates.copy_(state["updates"])
