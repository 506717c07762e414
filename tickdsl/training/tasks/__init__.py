"""Tasks: what a network learns, and what it is judged by. `find_task` finds one by its name."""

from tickdsl.training.tasks.classify import CLASSIFY, Classify
from tickdsl.training.tasks.generate import Features, Generate
from tickdsl.training.tasks.language import Language
from tickdsl.training.tasks.phases import Phase, joint_loss
from tickdsl.training.tasks.protocol import UNLABELLED, BadTargets, Loss, Outputs, Task, TaskMetric, as_float32
from tickdsl.training.tasks.reconstruct import Reconstruct
from tickdsl.training.tasks.registry import TASKS, find_task, is_builtin
from tickdsl.training.tasks.regress import Regress
from tickdsl.training.tasks.segment import Segment
from tickdsl.training.tasks.tag import Tag
from tickdsl.training.tasks.vae import Vae

__all__ = [
    "CLASSIFY",
    "TASKS",
    "UNLABELLED",
    "BadTargets",
    "Classify",
    "Features",
    "Generate",
    "Language",
    "Loss",
    "Outputs",
    "Phase",
    "Reconstruct",
    "Regress",
    "Segment",
    "Tag",
    "Task",
    "TaskMetric",
    "Vae",
    "as_float32",
    "find_task",
    "is_builtin",
    "joint_loss",
]
