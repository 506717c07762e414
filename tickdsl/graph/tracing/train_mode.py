"""Whether a network's code asks if it is in training: where none does, training is evaluation."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import nn

_WATCH = "_mode_watch"


class ModeWatch:
    """Sees whether code reads `training` of a module with children; torch's own layers do so for dropout only.

    The modules become instances of subclasses, so the network must be a copy of one's own. Where reading cannot be
    seen it is taken for granted.
    """

    def __init__(self, model: nn.Module) -> None:
        self.asked = False
        kinds: dict[Any, Any] = {}
        for module in model.modules():
            kind: Any = type(module)
            if not any(True for _ in module.children()):
                continue
            if isinstance(module, torch.jit.ScriptModule) or hasattr(kind, "training"):
                self.asked = True
                continue
            try:
                if kind not in kinds:
                    kinds[kind] = _watched(kind)
                module.__class__ = kinds[kind]
            except TypeError:  # a class that allows no subclass
                self.asked = True
            else:
                module.__dict__[_WATCH] = self


def _watched(kind: Any) -> Any:
    def read(module: nn.Module) -> Any:
        if not sys._getframe(1).f_globals["__name__"].startswith("torch.nn.modules."):
            module.__dict__[_WATCH].asked = True
        return module.__dict__["training"]

    def write(module: nn.Module, value: bool) -> None:
        module.__dict__["training"] = value

    return type(kind)(kind.__name__, (kind,), {"training": property(read, write), "__module__": kind.__module__})
