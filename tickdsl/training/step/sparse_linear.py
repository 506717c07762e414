"""Linear layers of which little is left: trained and asked through sparse products on a CPU, equal but for rounding.

Only the weights that are left are parameters, so that the optimiser sees nothing else and no mask is wanted. A state
dict stays that of the dense layer, zeros where weights are gone.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import torch
from torch import Tensor, nn


class SparseLinear(nn.Module):
    """A masked `nn.Linear` in compressed rows; `mask` (bool [out, in]) is True where a weight is kept.

    float32 on a CPU. Its parameters are `values` [weights left], in the order of the dense layer, and `bias`.
    """

    def __init__(self, dense: nn.Linear, mask: Tensor) -> None:
        super().__init__()
        _hear_out_torch()
        self.dense_shape = tuple(mask.shape)
        rows, columns = mask.nonzero(as_tuple=True)
        self._places = rows * mask.shape[1] + columns
        # Back to the input goes the transpose, whose compressed rows hold the values in the order of the columns.
        by_column = torch.argsort(columns, stable=True)
        self._pattern = _Pattern(_starts(mask.sum(1)), columns.int(), self.dense_shape)
        self._transposed = _Pattern(_starts(mask.sum(0)), rows[by_column].int(), self.dense_shape[::-1])
        self._by_column = by_column
        with torch.no_grad():
            self.values = nn.Parameter(dense.weight.flatten()[self._places], dense.weight.requires_grad)
        self.bias = dense.bias
        self.register_state_dict_post_hook(_write_dense)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_read_dense)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] to [..., out]."""
        flat = x.reshape(-1, x.shape[-1])
        y: Tensor = _Product.apply(  # type: ignore[no-untyped-call]
            flat, self.values, self.bias, self._pattern, self._transposed, self._by_column
        )
        return y.view(*x.shape[:-1], y.shape[1]) if x.dim() != 2 else y

    @torch.no_grad()
    def weight(self) -> Tensor:
        """The dense weight [out, in]."""
        flat = self.values.new_zeros(self.dense_shape[0] * self.dense_shape[1])
        return flat.index_copy_(0, self._places, self.values).view(self.dense_shape)

    @torch.no_grad()
    def take(self, weight: Tensor) -> Tensor:
        """The values that this layer has of a dense weight."""
        return weight.flatten()[self._places]


class _Pattern:
    """Where the values of a compressed matrix stand. int32: what the library beneath computes with."""

    def __init__(self, starts: Tensor, columns: Tensor, shape: tuple[int, ...]) -> None:
        self._starts, self._columns, self._shape = starts, columns, shape

    def of(self, values: Tensor) -> Tensor:
        """The matrix with these values, which are not copied."""
        return torch.sparse_csr_tensor(
            self._starts, self._columns, values, size=self._shape, check_invariants=False
        )  # fmt: skip


@functools.cache
def _hear_out_torch() -> None:
    """Let torch say once, unheard, that its compressed tensors are a beta."""
    with warnings.catch_warnings(action="ignore"):
        torch.sparse_csr_tensor([0, 0], [], [], size=(1, 1))


def _starts(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int()


class _Product(torch.autograd.Function):
    """x [B, in] times the transpose of a sparse [out, in], plus a bias [out].

    Computed on transposes: a sparse row then meets contiguous rows of B pictures, and the layer behind finds its input
    laid out as it wants it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        values: Tensor,
        bias: Tensor | None,
        pattern: _Pattern,
        transposed: _Pattern,
        by_column: Tensor,
    ) -> Tensor:
        columns = x.t().contiguous()
        weight = pattern.of(values)
        y = torch.mm(weight, columns) if bias is None else torch.addmm(bias.unsqueeze(1), weight, columns)
        ctx.save_for_backward(columns, values, by_column)
        ctx.patterns = pattern, transposed
        return y.t()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        columns, values, by_column = ctx.saved_tensors
        pattern, transposed = ctx.patterns
        from_above = gradients[0].t().contiguous()
        to_x = to_values = to_bias = None
        if ctx.needs_input_grad[0]:
            to_x = torch.mm(transposed.of(values[by_column]), from_above).t()
        if ctx.needs_input_grad[1]:
            # The product of the two, only where there are values.
            found = torch.sparse.sampled_addmm(pattern.of(values), from_above, columns.t(), beta=0.0)
            to_values = found.values()
        if ctx.needs_input_grad[2]:
            to_bias = from_above.sum(1)
        return to_x, to_values, to_bias, None, None, None


def _write_dense(module: nn.Module, state: dict[str, Any], prefix: str, metadata: dict[str, Any]) -> None:
    assert isinstance(module, SparseLinear)
    del state[prefix + "values"]
    state[prefix + "weight"] = module.weight()


def _read_dense(module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    assert isinstance(module, SparseLinear)
    state[prefix + "values"] = module.take(state.pop(prefix + "weight"))
