"""Build networks without allocating their weights."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

#: The functions that constructors of layers allocate parameters with.
_ALLOCATING = frozenset({torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.eye})


class WithoutMemory(TorchFunctionMode):
    """Within this context, new parameters are on the meta device, where tensors have shapes but no data.

    Unlike with `torch.device("meta")`, numbers that constructors compute with tensors, such as the widths of RegNet,
    keep their values.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in _ALLOCATING and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)
