"""Multi-head attention with pruned heads, dims or channels; torch's own layer requires heads × dims = input width."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PrunedAttention(nn.MultiheadAttention):
    """`nn.MultiheadAttention` with any number of heads, any head width and any input width.

    Parameters, names and signature are those of torch's layer. `head_dim` is the width of each head's queries and keys,
    `value_dim` that of its values. `scale` is that of the dense layer.
    """

    scale: float
    value_dim: int

    @staticmethod
    def from_dense(layer: nn.MultiheadAttention, heads: int, head_dim: int, value_dim: int) -> None:
        """Convert a layer with sliced parameters in place; the sizes are the remaining ones."""
        packed = layer.in_proj_weight is not None
        layer.embed_dim = layer.in_proj_weight.shape[1] if packed else layer.q_proj_weight.shape[1]
        layer.kdim = layer.embed_dim if packed else layer.k_proj_weight.shape[1]
        layer.vdim = layer.embed_dim if packed else layer.v_proj_weight.shape[1]
        scale = getattr(layer, "scale", layer.head_dim**-0.5)
        vars(layer).update(num_heads=heads, head_dim=head_dim, value_dim=value_dim, scale=scale)
        # Keeps torch's transformer layers off their fused path.
        layer._qkv_same_embed_dim = False
        layer.__class__ = PrunedAttention

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Same as in torch's layer: the attended values, and the attention weights if `need_weights` is set."""
        batched = query.dim() == 3
        inputs = [x if batched else x.unsqueeze(0 if self.batch_first else 1) for x in (query, key, value)]
        if not self.batch_first:
            inputs = [x.transpose(0, 1) for x in inputs]
        queries, keys, values = (self._split_heads(x) for x in self._project(*inputs))
        keys, values, extra_positions = self._append_bias_positions(keys, values)
        mask = self._combine_masks(queries, keys.shape[2], extra_positions, key_padding_mask, attn_mask)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = queries * self.scale @ keys.transpose(-2, -1)
            weights = (scores if mask is None else scores + mask).softmax(-1)
            attended = F.dropout(weights, dropout) @ values
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights if batched else weights.squeeze(0)
        else:
            attended = F.scaled_dot_product_attention(queries, keys, values, mask, dropout, scale=self.scale)
        result = self.out_proj(attended.transpose(1, 2).flatten(2))
        if not self.batch_first:
            result = result.transpose(0, 1)
        return (result if batched else result.squeeze(0 if self.batch_first else 1)), weights

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sizes = [self.num_heads * width for width in (self.head_dim, self.head_dim, self.value_dim)]
        if self.in_proj_weight is not None:
            matrices: Any = torch.split(self.in_proj_weight, sizes)
        else:
            matrices = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        biases: Any = (None,) * 3 if self.in_proj_bias is None else torch.split(self.in_proj_bias, sizes)
        first, second, third = (
            F.linear(x, matrix, bias) for x, matrix, bias in zip((query, key, value), matrices, biases, strict=True)
        )
        return first, second, third

    def _split_heads(self, x: Tensor) -> Tensor:
        """Reshape `[batch, length, heads * width]` to `[batch, heads, length, width]`."""
        return x.reshape(*x.shape[:2], self.num_heads, -1).transpose(1, 2)

    def _append_bias_positions(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, int]:
        """Append the learnt and the zero position, if the layer has them; returns keys, values and their number."""
        batch, extra = keys.shape[0], 0
        if self.bias_k is not None and self.bias_v is not None:
            keys = torch.cat([keys, self._split_heads(self.bias_k).expand(batch, -1, -1, -1)], 2)
            values = torch.cat([values, self._split_heads(self.bias_v).expand(batch, -1, -1, -1)], 2)
            extra += 1
        if self.add_zero_attn:
            keys, values = F.pad(keys, (0, 0, 0, 1)), F.pad(values, (0, 0, 0, 1))
            extra += 1
        return keys, values, extra

    def _combine_masks(
        self, queries: Tensor, length: int, extra: int, padding: Tensor | None, mask: Tensor | None
    ) -> Tensor | None:
        """Combine both masks into one that is added to the scores, `[batch or 1, heads or 1, queries, keys]`."""
        combined = None
        if mask is not None:
            mask = _to_additive_mask(mask, queries)
            combined = mask if mask.dim() == 2 else mask.reshape(queries.shape[0], -1, *mask.shape[1:])
        if padding is not None:
            padding = _to_additive_mask(padding, queries).reshape(-1, 1, 1, padding.shape[-1])
            combined = padding if combined is None else combined + padding
        return F.pad(combined, (0, extra)) if combined is not None and extra else combined


def _to_additive_mask(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill_(mask, float("-inf"))
