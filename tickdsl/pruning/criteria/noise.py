"""Ones instead of the normal noise that a network draws."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten
_NOISE = (_aten.randn, _aten.randn_like, _aten.normal_functional, _aten.normal_)


class NoiseOfOnes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within it, tensors drawn from a normal distribution are ones."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        return result.fill_(1) if func.overloadpacket in _NOISE else result
