"""Whether a network's code asks if it is in training: where none does, training is evaluation."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import nn

_WATCH = "_mode_watch"


class TrainingModeWatch:
    """Sees whether code reads `training` of a module with children; torch's own layers do so for dropout only.

    The modules become instances of subclasses, so the network must be a copy of one's own. Where reading cannot be
    seen it is taken for granted.
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
            except TypeError:  # a class that allows no subclass
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
