"""Batch norm that several processes compute together is that of the whole batch: outputs, statistics and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from rank_processes import run_on_ranks
from torch import Tensor
from torch.nn import functional as F

from tickdsl.training.parallel.batch_norm import SharedBatchNorm
from tickdsl.training.parallel.ranks import Ranks

pytestmark = pytest.mark.slow

#: The rows of each process; None: it has none of its own, and computes the first one, which counts for nothing.
SPLITS: dict[str, tuple[int | None, ...]] = {"even": (4, 4), "uneven": (1, 5), "one without": (3, None)}
SHAPES = {"images": (3, 5, 4), "features": (3,), "sequences": (3, 7)}


def tensors(rows: int, shape: tuple[int, ...], dtype: torch.dtype) -> list[Tensor]:
    """Inputs far from zero, what their outputs are weighted by in the loss, and the state of a batch norm."""
    draw = torch.Generator().manual_seed(0)
    inputs, factors = (torch.randn(rows, *shape, generator=draw, dtype=torch.float64) for _ in range(2))
    state = [torch.rand(shape[0], generator=draw, dtype=torch.float64) + 0.5 for _ in range(4)]
    return [(inputs + 100).to(dtype), factors.to(dtype), *(each.to(dtype) for each in state)]


def normalised(
    inputs: Tensor, factors: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor
) -> list[Tensor]:
    """Outputs, running statistics, and gradients by the inputs, weight and bias."""
    leaves = [each.clone().requires_grad_() for each in (inputs, weight, bias)]
    running = [mean.clone(), variance.clone()]
    outputs = F.batch_norm(leaves[0], *running, leaves[1], leaves[2], training=True, momentum=0.3)
    (outputs * factors).sum().backward()  # type: ignore[no-untyped-call]
    return [outputs.detach(), *running, *(leaf.grad for leaf in leaves if leaf.grad is not None)]


def share(ranks: Ranks, dtype: torch.dtype) -> dict[str, list[Tensor]]:
    found = {}
    norm = SharedBatchNorm(ranks)
    for split, sizes in SPLITS.items():
        for name, shape in SHAPES.items():
            rows = sum(size or 0 for size in sizes)
            inputs, factors, *state = tensors(rows, shape, dtype)
            first, size = sum(each or 0 for each in sizes[: ranks.rank]), sizes[ranks.rank]
            norm.counted = size is not None
            own = slice(0, 1) if size is None else slice(first, first + size)
            with norm.active():
                results = normalised(inputs[own], factors[own] * norm.counted, *state)
                evaluated = F.batch_norm(inputs[own], state[0], state[1], state[2], state[3])
            assert torch.equal(evaluated, F.batch_norm(inputs[own], state[0], state[1], state[2], state[3]))
            ranks.add_up(results[4:])
            found[f"{split}, {name}"] = results
    return found


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-3)])
def test_processes_normalise_the_whole_batch(dtype: torch.dtype, tolerance: float) -> None:
    results = run_on_ranks(2, share, dtype)
    for split, sizes in SPLITS.items():
        for name, shape in SHAPES.items():
            rows = sum(size or 0 for size in sizes)
            # In float64, since torch's own batch norm loses digits far from zero.
            expected = [each.to(dtype) for each in normalised(*(t.double() for t in tensors(rows, shape, dtype)))]
            parts: list[Any] = [found[f"{split}, {name}"] for found in results]
            counted = [part for part, size in zip(parts, sizes, strict=True) if size is not None]
            for position in (0, 3):  # outputs and gradients by row
                together = torch.cat([part[position] for part in counted])
                torch.testing.assert_close(together, expected[position], rtol=tolerance, atol=tolerance)
            for part in parts:
                for position in (1, 2, 4, 5):
                    torch.testing.assert_close(part[position], expected[position], rtol=tolerance, atol=tolerance)
                assert all(torch.equal(part[position], parts[0][position]) for position in (1, 2, 4, 5))


def test_a_row_that_does_not_count_passes_nothing_on() -> None:
    results = run_on_ranks(2, share, torch.float64)
    assert not results[1]["one without, images"][3].any()
