"""Dictionaries in which code keeps what it once calculated of its weights: wrong once these are others."""

from __future__ import annotations

from torch import Tensor, nn

from tickdsl.graph.model import ModelGraph
from tickdsl.graph.surgery.verify import dtype_of
from tickdsl.graph.tracing.example_inputs import build
from tickdsl.graph.tracing.meta import copy_without_data, set_mode, without_data

_OF_TORCH = vars(nn.Module()).keys()


def forget(copy: nn.Module, model: nn.Module, graph: ModelGraph) -> None:
    """Empty such dictionaries of a copy of the network that `graph` was traced from, unless it does not run without.

    Then they hold what the code was given, and stay.
    """
    if _dictionaries(copy) and _runs_without(model, graph):
        _empty(copy)


def _dictionaries(model: nn.Module) -> list[dict[object, Tensor]]:
    return [
        value
        for module in model.modules()
        for name, value in vars(module).items()
        if name not in _OF_TORCH and type(value) is dict and value
        if all(isinstance(item, Tensor) for item in value.values())
    ]


def _empty(model: nn.Module) -> None:
    for dictionary in _dictionaries(model):
        dictionary.clear()


def _runs_without(model: nn.Module, graph: ModelGraph) -> bool:
    bare = copy_without_data(model)
    set_mode(bare, train=False)
    _empty(bare)
    with without_data():
        args, kwargs = build(graph.inputs, floating=dtype_of(model))
        try:
            bare(*args, **kwargs)
        except Exception:  # the network's own code misses what was there
            return False
    return True
