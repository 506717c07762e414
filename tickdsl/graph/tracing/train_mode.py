"""Detects whether a network's code reads its training mode; if not, one trace in eval mode is enough."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import nn

_WATCH = "_mode_watch"


class TrainingModeWatch:
    """Watches whether code outside torch reads `training` of a module with children, and sets `reads_training`.

    torch's own layers read it for dropout only. The modules become instances of subclasses, so `model` must be a
    private copy. If reads of a module cannot be watched, `reads_training` is set right away.
    """

    def __init__(self, model: nn.Module) -> None:
        self.reads_training = False
        watched_classes: dict[Any, Any] = {}
        for module in model.modules():
            module_class: Any = type(module)
            if not any(True for _ in module.children()):
                continue
            if isinstance(module, torch.jit.ScriptModule) or hasattr(module_class, "training"):
                self.reads_training = True
                continue
            try:
                if module_class not in watched_classes:
                    watched_classes[module_class] = _watched_class(module_class)
                module.__class__ = watched_classes[module_class]
            except TypeError:  # a class that cannot be subclassed
                self.reads_training = True
            else:
                module.__dict__[_WATCH] = self


def _watched_class(module_class: Any) -> Any:
    def read(module: nn.Module) -> Any:
        if not sys._getframe(1).f_globals["__name__"].startswith("torch.nn.modules."):
            module.__dict__[_WATCH].reads_training = True
        return module.__dict__["training"]

    def write(module: nn.Module, value: bool) -> None:
        module.__dict__["training"] = value

    return type(module_class)(
        module_class.__name__,
        (module_class,),
        {"training": property(read, write), "__module__": module_class.__module__},
    )
