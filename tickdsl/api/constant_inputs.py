"""What convolutions and linear layers read: input channels that are constants, and biases that could hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from tickdsl.graph.model import ModelGraph
from tickdsl.training.named_tensors import run_network


@attrs.frozen(eq=False)
class ConstantInputs:
    """The inputs of a weight in one run.

    `values` [channels] are the constants, NaN for a channel with several values. `bias` is the name of the bias to
    which the products of the weight and constants can be added; None if it has none, or pads its input with zeros.
    """

    values: Tensor
    bias: str | None


#: Functions that read no values of a tensor.
_INQUIRIES = frozenset({"__get__", "dim", "size", "numel", "stride", "is_floating_point", "is_complex"})
_CONVOLUTIONS = (torch.conv1d, torch.conv2d, torch.conv3d)


class _Capture(TorchFunctionMode):
    """Records the inputs of weights by name; those of weights that are read otherwise are unknown."""

    def __init__(self, names: Mapping[int, str], biases: Mapping[int, str]) -> None:
        super().__init__()
        self._names, self._biases = names, biases
        self.inputs: dict[str, ConstantInputs | None] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "") not in _INQUIRIES:
            self._inspect(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))

    def _inspect(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        named = dict(zip(("input", "weight", "bias", "stride", "padding", "dilation", "groups"), args, strict=False))
        named |= kwargs
        weight: Any = named.get("weight")
        name = self._names.get(id(weight))
        if name is not None and func is nn.functional.linear:
            self._record(name, named, dim=-1, padded=False)
        elif name is not None and func in _CONVOLUTIONS and named.get("groups", 1) == 1:
            self._record(name, named, dim=1 - weight.dim(), padded=_pads(named.get("padding", 0)))
        else:  # a weight that is read in another way, also
            for value in tree_leaves((args, kwargs)):
                if id(value) in self._names:
                    self.inputs[self._names[id(value)]] = None

    def _record(self, name: str, named: Mapping[str, Any], dim: int, padded: bool) -> None:
        columns = named["input"].detach().movedim(dim, 0).flatten(1)
        values = columns[:, 0].clone()
        values[(columns != values[:, None]).any(1)] = torch.nan
        bias = None if padded else self._biases.get(id(named.get("bias")))
        if name not in self.inputs:
            self.inputs[name] = ConstantInputs(values, bias)
        elif (before := self.inputs[name]) is not None:  # a weight that is used twice
            same = before.values == values if before.bias == bias else (before.values == 0) & (values == 0)
            self.inputs[name] = ConstantInputs(torch.where(same, values, torch.nan), bias)


def _pads(padding: Any) -> bool:
    if isinstance(padding, str):
        return padding != "valid"
    return any(padding) if isinstance(padding, tuple | list) else bool(padding)


def capture_inputs(network: nn.Module, graph: ModelGraph, example_inputs: Any) -> dict[str, ConstantInputs]:
    """Run a network in eval mode, and see what its weights read, by name.

    Weights of grouped and transposed convolutions, of attention and recurrent layers are left out. The network's mode
    is restored.
    """
    modes = {module: module.training for module in network.modules()}
    parameters = dict(network.named_parameters())
    capture = _Capture(
        {id(parameters[name]): name for name in graph.weights if name in parameters},
        {id(parameter): name for name, parameter in parameters.items() if name.endswith("bias")},
    )
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    inputs = tree_map(lambda value: value.to(device) if isinstance(value, Tensor) else value, example_inputs)
    try:
        network.eval()
        with torch.no_grad(), capture:
            run_network(network, inputs)
    finally:
        for module, training in modes.items():
            module.training = training
    return {name: found for name, found in capture.inputs.items() if found is not None}
