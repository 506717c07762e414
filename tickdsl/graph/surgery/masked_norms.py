"""Norms of `zeroed_copy`: statistics over the kept channels only, as in the compact network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tickdsl.graph.arrays import BoolArray, IntArray
from tickdsl.graph.costs import layout_mask
from tickdsl.graph.indexing import all_kept_indices, kept_units
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure


class _OverKept(nn.Module):
    """Applies a norm to the kept positions of its last dimensions; the others become zero."""

    #: The kept indices of each normalised dimension; None if all are kept.
    kept_indices: Any
    normalized_shape: Any
    eps: Any

    def _apply_over_kept(self, norm: Any, data: Tensor) -> Tensor:
        kept_data = self._kept(data)
        shape = kept_data.shape[kept_data.dim() - len(self.normalized_shape) :]
        values = norm(shape, self.eps, elementwise_affine=False)(kept_data)
        if getattr(self, "weight", None) is not None:
            values = values * self._kept(self.weight)
        if getattr(self, "bias", None) is not None:
            values = values + self._kept(self.bias)
        return self._with_zeros(values, data)

    def _kept(self, data: Any) -> Tensor:
        for dim, index in enumerate(self.kept_indices, -len(self.kept_indices)):
            if index is not None:
                data = data.index_select(dim, index.to(data.device))
        result: Tensor = data
        return result

    def _with_zeros(self, values: Tensor, data: Tensor) -> Tensor:
        for dim, index in enumerate(self.kept_indices, -len(self.kept_indices)):
            if index is not None:
                shape = list(values.shape)
                shape[dim] = data.shape[dim]
                values = values.new_zeros(shape).index_copy(dim, index.to(values.device), values)
        return values


class LayerNormOverKept(_OverKept, nn.LayerNorm):
    """A layer norm over the kept channels."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise the kept channels, and zero the others."""
        return self._apply_over_kept(nn.LayerNorm, input)


class RMSNormOverKept(_OverKept, nn.RMSNorm):
    """A root-mean-square norm over the kept channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the kept channels, and zero the others."""
        return self._apply_over_kept(nn.RMSNorm, x)


def normalise_over_kept_channels(model: nn.Module, graph: ModelGraph, structure: Structure) -> None:
    """Let torch's own norms of the dense network compute their statistics over the kept channels."""
    indices = all_kept_indices(graph, structure)
    kept_masks = kept_units(graph, structure)
    modules: list[tuple[str, Any]] = list(model.named_modules())
    for path, module in modules:
        for norm, over_kept in ((nn.LayerNorm, LayerNormOverKept), (nn.RMSNorm, RMSNormOverKept)):
            if type(module) is norm:
                kept = _kept_indices(module, path, graph, indices, kept_masks)
                if any(index is not None for index in kept):
                    tensors = tuple(None if k is None else torch.from_numpy(k.copy()) for k in kept)
                    module.__class__ = over_kept
                    setattr(module, "kept_indices", tensors)  # noqa: B010 (mypy knows the class now)


def _kept_indices(
    module: Any,
    path: str,
    graph: ModelGraph,
    indices: Mapping[str, list[IntArray | None]],
    kept_masks: Mapping[str, BoolArray],
) -> list[IntArray | None]:
    """The kept indices of the normalised dimensions: of the weight, or, without one, of what the module returns."""
    if module.weight is not None:
        name = f"{path}.weight" if path else "weight"
        return indices.get(graph.aliases.get(name, name), [])
    for layouts in normalised_layouts(graph, path, module.normalized_shape):
        masks = [None if layout is None else layout_mask(graph.layouts[layout], kept_masks) for layout in layouts]
        return [None if mask is None or mask.all() else np.flatnonzero(mask) for mask in masks]
    return []


def normalised_layouts(graph: ModelGraph, path: str, shape: tuple[int, ...]) -> list[tuple[int | None, ...]]:
    """The layouts of the last dimensions of each operator of a norm whose output ends in the normalised shape."""
    return [
        data["dims"][0][-len(shape) :]
        for _, data in graph.graph.nodes(data=True)
        if data["kind"] == "operator" and data["module"] == path and data["shapes"][0][-len(shape) :] == shape
    ]
