"""Convolutions that compute only the dense blocks of their masks: the compact form of refilled and regrouped layers.

A block is a set of filters that keep the same weights. A filter without a block is its bias. Chen et al. 2022 generate
CUDA code for each block; here a block is an ordinary convolution, on the input channels that it reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tickdsl.graph.arrays import BoolArray, IntArray
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact_masks
from tickdsl.graph.tracing.module_copy import replace_module

#: A layer whose blocks have fewer filters on average stays as it is: single weights were pruned in it.
_MIN_FILTERS = 4


@attrs.frozen(eq=False)
class DenseBlock:
    """Filters `rows` that keep the same weights: those of the `columns` of a filter, flattened. Both ascend."""

    rows: IntArray
    columns: IntArray

    @property
    def size(self) -> int:
        return len(self.rows) * len(self.columns)


def dense_blocks(mask: BoolArray) -> list[DenseBlock]:
    """The blocks of a mask [filters, weights of one], in the order of their first filters. Empty ones are in none."""
    patterns, which = np.unique(np.packbits(mask, axis=1), axis=0, return_inverse=True)
    blocks = []
    for pattern in range(len(patterns)):
        rows = np.flatnonzero(which.reshape(-1) == pattern)
        columns = np.flatnonzero(mask[rows[0]])
        if len(columns):
            blocks.append(DenseBlock(rows, columns))
    return sorted(blocks, key=lambda block: int(block.rows[0]))


def with_dense_blocks(module: nn.Module, masks: Mapping[str, Tensor]) -> list[str]:
    """Replace the convolutions of a network, in place, whose masks consist of dense blocks; returns their names.

    masks: by parameter, those of the network's weights. The network computes the same up to rounding. Layers of other
    kinds, grouped convolutions, padding modes other than zeros, weights that two layers share, and masks that leave
    single weights are left as they are.
    """
    uses: dict[int, int] = {}
    for _, parameter in module.named_parameters(remove_duplicate=False):
        uses[id(parameter)] = uses.get(id(parameter), 0) + 1
    replaced = []
    for path, layer in list(module.named_modules()):
        mask = masks.get(f"{path}.weight")
        if mask is None or type(layer) is not nn.Conv2d or layer.groups != 1 or layer.padding_mode != "zeros":
            continue
        rows = mask.reshape(len(mask), -1).cpu().numpy()
        blocks = dense_blocks(rows)
        if uses[id(layer.weight)] == 1 and blocks and _is_coarse(rows, blocks):
            replace_module(module, path, BlockConvolution(layer, blocks))
            replaced.append(path)
    return replaced


def compact_with_blocks(module: nn.Module, graph: ModelGraph, structure: Structure) -> list[str]:
    """`with_dense_blocks` on a compact network of a structure."""
    return with_dense_blocks(module, compact_masks(graph, structure))


def _is_coarse(mask: BoolArray, blocks: Sequence[DenseBlock]) -> bool:
    """Whether blocks are worth computing: they leave something out, and have several filters."""
    filters = sum(len(block.rows) for block in blocks)
    return sum(block.size for block in blocks) < mask.size and filters >= _MIN_FILTERS * len(blocks)


class BlockConvolution(nn.Module):
    """A convolution that computes only the dense blocks of its weight."""

    def __init__(self, layer: nn.Conv2d, blocks: Sequence[DenseBlock]) -> None:
        super().__init__()
        weight = layer.weight.detach()
        self.out_channels, self.in_channels = layer.out_channels, layer.in_channels
        self.bias = layer.bias
        self.blocks = nn.ModuleList(_BlockKernel(layer, weight, block) for block in blocks)
        self._places_filters(blocks, layer.out_channels, weight.device)

    def _places_filters(self, blocks: Sequence[DenseBlock], filters: int, device: torch.device) -> None:
        """Set where each filter is in the blocks' joined outputs; those in no block are one more channel, of zeros."""
        computed = np.concatenate([block.rows for block in blocks])
        place = np.full(filters, len(computed), dtype=np.int64)
        place[computed] = np.arange(len(computed))
        self.has_empty_filters = len(computed) < filters
        self.register_buffer("place", torch.from_numpy(place).to(device), persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """The layer's output: [N, filters, H, W]."""
        outputs = [block(input) for block in self.blocks]
        if self.has_empty_filters:
            outputs.append(torch.zeros_like(outputs[0][:, :1]))
        joined = torch.cat(outputs, dim=1).index_select(1, self.place)  # type: ignore[arg-type]
        return joined if self.bias is None else joined + self.bias.view(1, -1, 1, 1)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, {len(self.blocks)} dense blocks"


class _BlockKernel(nn.Module):
    """A block as a convolution on the input channels that it reads, with zeros for the rest of their kernels.

    Gathering what each single weight reads leaves these zeros out, but takes several times as long on a CPU.
    """

    def __init__(self, layer: nn.Conv2d, weight: Tensor, block: DenseBlock) -> None:
        super().__init__()
        channels = np.unique(block.columns // int(np.prod(layer.kernel_size)))
        chosen = torch.from_numpy(block.rows.copy()).to(weight.device)
        rows = weight.index_select(0, chosen).reshape(len(block.rows), -1)
        kept = torch.zeros(rows.shape[1], dtype=torch.bool, device=weight.device)
        kept[torch.from_numpy(block.columns.copy())] = True
        whole = torch.where(kept, rows, torch.zeros_like(rows)).view(len(block.rows), *weight.shape[1:])
        index = torch.from_numpy(channels.copy()).to(weight.device)
        self.weight = nn.Parameter(whole.index_select(1, index), requires_grad=False)
        self.reads_all = len(channels) == layer.in_channels
        self.register_buffer("channels", index, persistent=False)
        self.stride, self.padding, self.dilation = layer.stride, layer.padding, layer.dilation

    def forward(self, input: Tensor) -> Tensor:
        read = input if self.reads_all else input.index_select(1, self.channels)  # type: ignore[arg-type]
        return F.conv2d(read, self.weight, None, self.stride, self.padding, self.dilation)


def block_facts(module: nn.Module) -> dict[str, dict[str, Any]]:
    """The layers of a network that compute dense blocks: how many, and how many weights they have."""
    return {
        path: {"blocks": len(layer.blocks), "weights": sum(p.numel() for p in layer.blocks.parameters())}
        for path, layer in module.named_modules()
        if isinstance(layer, BlockConvolution)
    }
