"""The attributes by which torch's own layers know their sizes."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from tickdsl.graph.arrays import Ints
from tickdsl.graph.attention import PrunedAttention
from tickdsl.graph.model import ModelGraph

Kept = list[Ints | None]


def adjust(module: nn.Module, path: str, graph: ModelGraph, indices: Mapping[str, Kept]) -> None:
    """Make the attributes of a layer of torch's agree with its sliced parameters."""
    prefix = f"{path}." if path else ""
    if isinstance(module, nn.MultiheadAttention):
        if any(f"{prefix}{name}" in indices for name, _ in module.named_parameters()):
            PrunedAttention.from_dense(module)
    elif isinstance(module, _ConvNd):
        _convolution(module, graph.shape(_name(graph, f"{prefix}weight")))
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, _NormBase):
        _batch_norm(module, indices.get(_name(graph, f"{prefix}weight")) or indices.get(f"{prefix}running_mean"))
    elif isinstance(module, nn.GroupNorm) and module.weight is not None:
        width = module.num_channels // module.num_groups
        module.num_channels = module.weight.shape[0]
        module.num_groups = max(module.num_channels // width, 1) if module.num_groups > 1 else 1
    elif isinstance(module, nn.LayerNorm) and module.weight is not None:
        module.normalized_shape = tuple(module.weight.shape)
    elif isinstance(module, nn.PReLU):
        module.num_parameters = module.weight.shape[0]
    elif isinstance(module, nn.RNNBase):
        module.input_size = module.get_parameter("weight_ih_l0").shape[1]
        module.hidden_size = module.get_parameter("weight_hh_l0").shape[1]
    elif isinstance(module, nn.Embedding):
        module.embedding_dim = module.weight.shape[1]


def _name(graph: ModelGraph, name: str) -> str:
    return graph.aliases.get(name, name)


def _convolution(module: _ConvNd, dense: tuple[int, ...]) -> None:
    """Whole groups went, so the channels per group are those of the dense layer."""
    rows, columns = (1, 0) if isinstance(module, _ConvTransposeNd) else (0, 1)
    weight = module.weight
    if module.groups > 1:
        module.groups = module.groups * weight.shape[0] // dense[0]
    module.out_channels = weight.shape[rows] * (module.groups if rows == 1 else 1)
    module.in_channels = weight.shape[columns] * (module.groups if columns == 1 else 1)


def _batch_norm(module: _NormBase, kept: Kept | None) -> None:
    if kept is not None and kept[0] is not None:
        module.num_features = len(kept[0])
