"""Tasks: what a network learns, and what it is judged by. `find_task` finds one by its name."""

from tickdsl.training.tasks.classify import CLASSIFY, Classify
from tickdsl.training.tasks.protocol import BadTargets, Loss, Task, TaskMetric
from tickdsl.training.tasks.registry import TASKS, find_task
from tickdsl.training.tasks.regress import Regress

__all__ = ["CLASSIFY", "TASKS", "BadTargets", "Classify", "Loss", "Regress", "Task", "TaskMetric", "find_task"]
