"""Updates the size attributes of torch's own layers, such as `in_features`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from tickdsl.graph.arrays import IntArray
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.surgery.masked_norms import normalised_layouts
from tickdsl.graph.surgery.pruned_attention import PrunedAttention

KeptIndices = list[IntArray | None]


def update_layer_attributes(
    module: nn.Module, path: str, graph: ModelGraph, indices: Mapping[str, KeptIndices], sizes: Sequence[int]
) -> None:
    """Update a torch layer's attributes to its sliced parameters; `sizes` are the remaining sizes of the layouts."""
    prefix = f"{path}." if path else ""
    if isinstance(module, nn.MultiheadAttention):
        if any(f"{prefix}{name}" in indices for name, _ in module.named_parameters()):
            PrunedAttention.from_dense(module, *_remaining_attention_sizes(module, prefix, graph, indices))
    elif isinstance(module, _ConvNd):
        _update_convolution(module)
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, _NormBase):
        tensor = next((name for name in ("weight", "running_mean") if getattr(module, name) is not None), None)
        kept = indices.get(_canonical_name(graph, f"{prefix}{tensor}")) if tensor else None
        if kept is not None and kept[0] is not None:
            module.num_features = len(kept[0])
        elif tensor is None:
            module.num_features = _remaining_channels(path, graph, sizes) or module.num_features
    elif isinstance(module, nn.GroupNorm) and module.weight is not None:
        width = module.num_channels // module.num_groups
        module.num_channels = module.weight.shape[0]
        module.num_groups = max(module.num_channels // width, 1) if module.num_groups > 1 else 1
    elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
        module.normalized_shape = _remaining_norm_shape(module, path, graph, sizes)
    elif isinstance(module, nn.PReLU):
        module.num_parameters = module.weight.shape[0]
    elif isinstance(module, nn.RNNBase):
        _update_recurrent_layer(module)
    elif isinstance(module, nn.RNNCellBase):
        module.input_size, module.hidden_size = module.weight_ih.shape[1], module.weight_hh.shape[1]
    elif isinstance(module, nn.Bilinear):
        module.out_features, module.in1_features, module.in2_features = module.weight.shape
    elif isinstance(module, nn.Embedding | nn.EmbeddingBag):
        module.embedding_dim = module.weight.shape[1]


def _update_recurrent_layer(module: nn.RNNBase) -> None:
    """With `proj_size`, the recurrent weight reads the projection, not the hidden state."""
    recurrent = module.get_parameter("weight_hh_l0")
    module.input_size = module.get_parameter("weight_ih_l0").shape[1]
    if module.proj_size:
        module.proj_size, module.hidden_size = module.get_parameter("weight_hr_l0").shape
    else:
        module.hidden_size = recurrent.shape[1]


def _remaining_norm_shape(
    module: nn.LayerNorm | nn.RMSNorm, path: str, graph: ModelGraph, sizes: Sequence[int]
) -> tuple[int, ...]:
    if module.weight is not None:
        return tuple(module.weight.shape)
    shape: tuple[int, ...] = tuple(module.normalized_shape)
    for layouts in normalised_layouts(graph, path, shape):
        return tuple(n if layout is None else sizes[layout] for n, layout in zip(shape, layouts, strict=True))
    return shape


def _canonical_name(graph: ModelGraph, name: str) -> str:
    return graph.aliases.get(name, name)


def _remaining_attention_sizes(
    module: nn.MultiheadAttention, prefix: str, graph: ModelGraph, indices: Mapping[str, KeptIndices]
) -> tuple[int, int, int]:
    """The number of remaining heads, and the widths of their queries and values."""
    heads, width = module.num_heads, module.head_dim
    widths = (width, width, getattr(module, "value_dim", width))
    packed = module.in_proj_weight is not None
    kept_masks = []
    for index, separate_name in ((0, "q_proj_weight"), (2, "v_proj_weight")):
        name = _canonical_name(graph, f"{prefix}{'in_proj_weight' if packed else separate_name}")
        rows = np.zeros(graph.shape(name)[0], dtype=bool)
        kept = indices.get(name, [None])[0]
        rows[slice(None) if kept is None else kept] = True
        start = heads * sum(widths[:index]) if packed else 0
        kept_masks.append(rows[start : start + heads * widths[index]].reshape(heads, widths[index]))
    queries, values = kept_masks
    return int(queries.any(1).sum()), int(queries.any(0).sum()), int(values.any(0).sum())


def _update_convolution(module: _ConvNd) -> None:
    """Only whole groups are removed, so the channels per group are those of the dense layer."""
    rows, columns = (1, 0) if isinstance(module, _ConvTransposeNd) else (0, 1)
    weight = module.weight
    if module.groups > 1:
        module.groups = module.groups * weight.shape[0] // (module.out_channels if rows == 0 else module.in_channels)
    module.out_channels = weight.shape[rows] * (module.groups if rows == 1 else 1)
    module.in_channels = weight.shape[columns] * (module.groups if columns == 1 else 1)


def _remaining_channels(path: str, graph: ModelGraph, sizes: Sequence[int]) -> int | None:
    """The remaining output channels of a module without parameters."""
    channels = None
    for _, data in graph.graph.nodes(data=True):
        if data["kind"] == "operator" and data["module"] == path and len(data["dims"][0]) > 1:
            layout = data["dims"][0][1]
            channels = data["shapes"][0][1] if layout is None else sizes[layout]
    return channels
