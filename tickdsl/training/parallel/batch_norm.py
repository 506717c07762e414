"""Batch norm over a batch that several processes share: the statistics, and all gradients, of the whole batch.

torch's own SyncBatchNorm takes no tensors of a CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tickdsl.training.parallel.ranks import Ranks


class SharedBatchNorm:
    """Computes batch norm in training mode over the rows of all processes, within `active`.

    counted: whether the rows of this process count (see `shares.Rows`). With `compiled`, code that torch compiles calls
    it uncompiled, since it waits for the other processes.
    """

    def __init__(self, ranks: Ranks, *, compiled: bool = False) -> None:
        self._ranks = ranks
        self.counted = True
        self._function: Any = self._batch_norm
        if compiled:
            self._function = torch.compiler.disable(self._batch_norm)  # type: ignore[no-untyped-call]

    @contextmanager
    def active(self) -> Iterator[None]:
        """Within it, every batch norm of this process is computed together with the other processes."""
        self._original = F.batch_norm
        F.batch_norm = self._function
        try:
            yield
        finally:
            F.batch_norm = self._original

    def _batch_norm(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        """`torch.nn.functional.batch_norm`, over all processes."""
        if not training:
            return self._original(input, running_mean, running_var, weight, bias, training, momentum, eps)
        mean, variance, count = self._statistics(input)
        if running_mean is not None and running_var is not None:
            _update(running_mean, mean, momentum)
            _update(running_var, variance * (count / (count - 1)), momentum)
        output: Tensor = _Normalise.apply(  # type: ignore[no-untyped-call]
            input, weight, bias, mean, variance, eps, count, self._ranks, self.counted
        )
        return output

    @torch.no_grad()
    def _statistics(self, input: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The mean and variance of each channel, float64 [C], and how many values they are of, float64 [].

        Those of the processes are put together as in Chan, Golub & LeVeque (1979), which loses no digits.
        """
        mean, variance = _moments(_precise(input))
        count = torch.full((1,), float(self.counted * input.numel() // input.shape[1]), device=input.device)
        own = torch.cat([mean.double(), variance.double(), count.double()])
        if not self.counted:
            own.zero_()
        means, variances, counts = torch.split(self._ranks.gather(own), [len(mean), len(mean), 1], dim=1)
        total = counts.sum()
        together = (means * counts).sum(0) / total
        squares = (counts * (variances + (means - together).square())).sum(0)
        return together, squares / total, total


@torch.no_grad()
def _update(running: Tensor, value: Tensor, momentum: float) -> None:
    running.mul_(1 - momentum).add_((value * momentum).to(running.dtype))


def _precise(tensor: Tensor) -> Tensor:
    """The tensor in float32 if it has less."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and variance of each channel, [C]."""
    if values.is_cuda:
        variance, mean = torch.var_mean(values, _others(values), correction=0)
        return mean, variance
    # On a CPU, torch's own takes several times as long.
    mean = values.mean(_others(values))
    return mean, (values - _per_channel(mean, values)).square_().mean(_others(values))


def _others(tensor: Tensor) -> list[int]:
    """The dimensions that are no channels."""
    return [0, *range(2, tensor.dim())]


class _Normalise(torch.autograd.Function):
    """(input - mean) / deviation x weight + bias, whose statistics depend on the inputs of all processes.

    torch's kernels compute it as if the statistics were given; what these pass on to the inputs is added.
    """

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        variance: Tensor,
        eps: float,
        count: Tensor,
        ranks: Ranks,
        counted: bool,
    ) -> Tensor:
        kind = _precise(input).dtype if weight is None else weight.dtype
        ctx.save_for_backward(input, weight, mean, variance, count)
        ctx.eps, ctx.ranks, ctx.counted, ctx.kind = eps, ranks, counted, kind
        output: Tensor
        output, _, _ = torch.native_batch_norm(input, weight, bias, mean.to(kind), variance.to(kind), False, 0.0, eps)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, mean, variance, count = ctx.saved_tensors
        gradient, values = _precise(gradients[0]), _precise(input)
        own_weight: Tensor
        grad_input, own_weight, own_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, values, torch.ones_like(mean, dtype=ctx.kind) if weight is None else weight,
            mean.to(ctx.kind), variance.to(ctx.kind), None, None, False, ctx.eps, [True, True, True],
        )  # fmt: skip
        total = torch.stack([own_bias.double(), own_weight.double()])
        ctx.ranks.add_up([total])
        if ctx.needs_input_grad[0]:
            scale = (variance + ctx.eps).rsqrt()
            factor = scale if weight is None else scale * weight
            # The means of the gradients, and of their products with the normalised inputs, over all processes.
            shift, slope = factor * total[0] / count, factor * scale * total[1] / count
            grad_input = grad_input.addcmul_(values, _per_channel(-slope, values))
            grad_input = grad_input.add_(_per_channel(slope * mean - shift, values))
            if not ctx.counted:  # a row that does not count passes nothing on
                grad_input = torch.zeros_like(grad_input)
        return (
            grad_input.to(input.dtype) if ctx.needs_input_grad[0] else None,
            own_weight if ctx.needs_input_grad[1] else None,
            own_bias if ctx.needs_input_grad[2] else None,
            *(None,) * 6,
        )


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    """Values [C] in the type of a tensor [N, C, …], to be combined with it."""
    return values.to(like.dtype).view(1, -1, *(1,) * (like.dim() - 2))
