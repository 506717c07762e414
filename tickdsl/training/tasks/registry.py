"""Tasks by name: the built-in ones, and those of plug-ins."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, cast

from tickdsl.errors import TickdslError
from tickdsl.plugins import PluginError, call_plugin, code_identity, is_plugin, load_plugin, require_plugin
from tickdsl.plugins.loading import type_in_words
from tickdsl.training.tasks.classify import CLASSIFY
from tickdsl.training.tasks.generate import Generate
from tickdsl.training.tasks.language import Language
from tickdsl.training.tasks.protocol import Task
from tickdsl.training.tasks.reconstruct import Reconstruct
from tickdsl.training.tasks.regress import Regress
from tickdsl.training.tasks.segment import Segment
from tickdsl.training.tasks.tag import Tag
from tickdsl.training.tasks.vae import Vae

#: The built-in tasks.
TASKS: Mapping[str, Task] = {
    task.name: task for task in (CLASSIFY, Tag(), Regress(), Segment(), Language(), Reconstruct(), Vae(), Generate())
}


def is_builtin(task: Task) -> bool:
    """Whether a task is one of these, and not one's own, of which only its interface is known."""
    return any(type(task) is type(known) for known in TASKS.values())


def find_task(name: str) -> Task:
    """The task with this name.

    Raises TickdslError if there is none, PluginError if that of a plug-in is no task, or has no primary metric.
    """
    if name in TASKS:
        return TASKS[name]
    if not is_plugin("task", name):
        raise TickdslError(
            f"unknown task `{name}`",
            f'use one of {", ".join(TASKS)}, or "package.module:factory" of a task of your own',
        )
    return _plugin_task(name, code_identity("task", name))


@functools.lru_cache(maxsize=16)
def _plugin_task(name: str, code_identity: str) -> Task:
    plugin = require_plugin("task", name)
    task = call_plugin(plugin, cast(Callable[..., Any], load_plugin(plugin)))
    if not isinstance(task, Task):
        raise PluginError(
            f"`{name}` returns {type_in_words(task)}, not a task", "register a subclass of tickdsl.extending.Task"
        )
    if not task.metrics:
        raise PluginError(f"the task `{name}` has no metric", "list its metrics in `metrics`, the primary one first")
    task.name = name
    return task
