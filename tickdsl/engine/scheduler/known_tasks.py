"""Tasks by name, as far as a run tells of them: built-in ones as the catalogue has them, which loads no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tickdsl.training.catalogue.tasks import TASK_INFOS, TaskInfo

if TYPE_CHECKING:
    from tickdsl.training.tasks import Task


def known_task(name: str) -> Task | TaskInfo:
    """The task with this name. Raises TickdslError as `find_task` does if there is none."""
    if name in TASK_INFOS:
        return TASK_INFOS[name]
    from tickdsl.training.tasks import find_task

    return find_task(name)
