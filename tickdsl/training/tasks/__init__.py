"""Tasks: what a network learns, and what it is judged by. `find_task` finds one by its name."""

from tickdsl.training.tasks.classify import CLASSIFY, Classify
from tickdsl.training.tasks.language import Language
from tickdsl.training.tasks.protocol import BadTargets, Loss, Outputs, Task, TaskMetric, as_float32
from tickdsl.training.tasks.registry import TASKS, find_task
from tickdsl.training.tasks.regress import Regress

__all__ = [
    "CLASSIFY",
    "TASKS",
    "BadTargets",
    "Classify",
    "Language",
    "Loss",
    "Outputs",
    "Regress",
    "Task",
    "TaskMetric",
    "as_float32",
    "find_task",
]
