"""Linear layers with few weights left, computed with sparse matrix products on a CPU; equal up to rounding.

Only the remaining weights are parameters, so that no mask is needed. The state dict is that of the dense layer, with
zeros for pruned weights.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import torch
from torch import Tensor, nn


class SparseLinear(nn.Module):
    """A masked `nn.Linear` in CSR format, float32 on a CPU; `mask` (bool [out, in]) is True where a weight is kept.

    Its parameters are `values` [weights left], in the dense layer's row-major order, and `bias`.
    """

    def __init__(self, dense: nn.Linear, mask: Tensor) -> None:
        super().__init__()
        _silence_beta_warning()
        self.dense_shape = tuple(mask.shape)
        rows, columns = mask.nonzero(as_tuple=True)
        self._flat_indices = rows * mask.shape[1] + columns
        # The input's gradient needs the transpose, whose CSR format has the values in column order.
        column_order = torch.argsort(columns, stable=True)
        self._pattern = _CsrPattern(_offsets(mask.sum(1)), columns.int(), self.dense_shape)
        self._transposed = _CsrPattern(_offsets(mask.sum(0)), rows[column_order].int(), self.dense_shape[::-1])
        self._column_order = column_order
        with torch.no_grad():
            self.values = nn.Parameter(dense.weight.flatten()[self._flat_indices], dense.weight.requires_grad)
        self.bias = dense.bias
        self.register_state_dict_post_hook(_write_dense)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_read_dense)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor) -> Tensor:
        """Map x [..., in] to [..., out]."""
        flat = x.reshape(-1, x.shape[-1])
        y: Tensor = _SparseLinearFunction.apply(  # type: ignore[no-untyped-call]
            flat, self.values, self.bias, self._pattern, self._transposed, self._column_order
        )
        return y.view(*x.shape[:-1], y.shape[1]) if x.dim() != 2 else y

    @torch.no_grad()
    def weight(self) -> Tensor:
        """The dense weight [out, in], zero where pruned."""
        flat = self.values.new_zeros(self.dense_shape[0] * self.dense_shape[1])
        return flat.index_copy_(0, self._flat_indices, self.values).view(self.dense_shape)

    @torch.no_grad()
    def gather(self, weight: Tensor) -> Tensor:
        """The values [weights left] of a dense weight [out, in] that this layer keeps."""
        return weight.flatten()[self._flat_indices]


class _CsrPattern:
    """The row offsets and column indices of a CSR matrix, int32 as MKL needs them."""

    def __init__(self, offsets: Tensor, columns: Tensor, shape: tuple[int, ...]) -> None:
        self._offsets, self._columns, self._shape = offsets, columns, shape

    def matrix(self, values: Tensor) -> Tensor:
        """The sparse matrix with these values, which are not copied."""
        return torch.sparse_csr_tensor(
            self._offsets, self._columns, values, size=self._shape, check_invariants=False
        )  # fmt: skip


@functools.cache
def _silence_beta_warning() -> None:
    """Trigger and suppress torch's one-time warning that CSR tensors are in beta."""
    with warnings.catch_warnings(action="ignore"):
        torch.sparse_csr_tensor([0, 0], [], [], size=(1, 1))


def _offsets(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int()


class _SparseLinearFunction(torch.autograd.Function):
    """x [B, in] times the transpose of a sparse weight [out, in], plus a bias [out].

    It is computed on transposes: each sparse row is then multiplied with contiguous rows of B values, and the next
    sparse layer gets its input in the layout that it needs.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        values: Tensor,
        bias: Tensor | None,
        pattern: _CsrPattern,
        transposed: _CsrPattern,
        column_order: Tensor,
    ) -> Tensor:
        columns = x.t().contiguous()
        weight = pattern.matrix(values)
        y = torch.mm(weight, columns) if bias is None else torch.addmm(bias.unsqueeze(1), weight, columns)
        ctx.save_for_backward(columns, values, column_order)
        ctx.patterns = pattern, transposed
        return y.t()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        columns, values, column_order = ctx.saved_tensors
        pattern, transposed = ctx.patterns
        grad_output = gradients[0].t().contiguous()
        grad_x = grad_values = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.mm(transposed.matrix(values[column_order]), grad_output).t()
        if ctx.needs_input_grad[1]:
            # Compute the product only where there are values.
            product = torch.sparse.sampled_addmm(pattern.matrix(values), grad_output, columns.t(), beta=0.0)
            grad_values = product.values()
        if ctx.needs_input_grad[2]:
            grad_bias = grad_output.sum(1)
        return grad_x, grad_values, grad_bias, None, None, None


def _write_dense(module: nn.Module, state: dict[str, Any], prefix: str, metadata: dict[str, Any]) -> None:
    assert isinstance(module, SparseLinear)
    del state[prefix + "values"]
    state[prefix + "weight"] = module.weight()


def _read_dense(module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    assert isinstance(module, SparseLinear)
    state[prefix + "values"] = module.gather(state.pop(prefix + "weight"))
