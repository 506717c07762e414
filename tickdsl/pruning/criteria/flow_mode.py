"""What keeps synaptic flow positive and finite in networks that draw noise or make images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_NOISE = {torch.randn, torch.randn_like}
_TANH = {torch.tanh, torch.Tensor.tanh, F.tanh}


class FlowMode(TorchFunctionMode):
    """Within it, normal noise is ones; with `open_tanh`, tanh is the identity, since a large flow would saturate it."""

    def __init__(self, open_tanh: bool) -> None:
        super().__init__()
        self._open_tanh = open_tanh

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if self._open_tanh and func in _TANH:
            return args[0]
        result = func(*args, **(kwargs or {}))
        return torch.ones_like(result) if func in _NOISE else result
