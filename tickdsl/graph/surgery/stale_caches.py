"""Clears dictionaries in which modules cache tensors computed from their weights, which pruning makes stale."""

from __future__ import annotations

from torch import Tensor, nn

from tickdsl.graph.model import ModelGraph
from tickdsl.graph.surgery.variants import model_dtype
from tickdsl.graph.tracing.example_inputs import build_inputs
from tickdsl.graph.tracing.meta import MetaRun, copy_to_meta, on_meta_device, set_training_mode

_MODULE_ATTRIBUTES = vars(nn.Module()).keys()


def clear_tensor_caches(copy: nn.Module, model: nn.Module, graph: ModelGraph) -> None:
    """Clear the tensor dictionaries of `copy`, a copy of `model`, if the network runs without their contents.

    Otherwise they are not caches, and are kept.
    """
    if _tensor_dicts(copy) and _runs_with_cleared_dicts(model, graph):
        _clear_tensor_dicts(copy)


def _tensor_dicts(model: nn.Module) -> list[dict[object, Tensor]]:
    return [
        value
        for module in model.modules()
        for name, value in vars(module).items()
        if name not in _MODULE_ATTRIBUTES and type(value) is dict and value
        if all(isinstance(item, Tensor) for item in value.values())
    ]


def _clear_tensor_dicts(model: nn.Module) -> None:
    for dictionary in _tensor_dicts(model):
        dictionary.clear()


def _runs_with_cleared_dicts(model: nn.Module, graph: ModelGraph) -> bool:
    meta_model = copy_to_meta(model)
    set_training_mode(meta_model, train=False)
    _clear_tensor_dicts(meta_model)
    with on_meta_device():
        args, kwargs = build_inputs(graph.inputs, floating=model_dtype(model))
        try:
            with MetaRun():  # type: ignore[no-untyped-call]
                meta_model(*args, **kwargs)
        except Exception:  # the network's code needs their contents
            return False
    return True
