"""The weights of convolutions in a model graph."""

from __future__ import annotations

from tickdsl.graph.model import ModelGraph


def is_convolution(graph: ModelGraph, name: str) -> bool:
    """Whether a weight is that of a convolution: it has spatial dimensions beside its channels."""
    return name in graph.weights and len(graph.weights[name].shape) > 2


def filter_dim(graph: ModelGraph, name: str) -> int:
    """The dimension of a convolution's weight that counts its filters: that of the channels which it computes."""
    slices = (group_slice for _, group_slice in graph.slices.get(name, ()))
    return next((group_slice.dim for group_slice in slices if group_slice.role == "producer"), 0)
