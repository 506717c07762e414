"""Which steps several processes run together."""

from __future__ import annotations

from tickdsl.engine.steps.context import Context
from tickdsl.plan.steps import Step
from tickdsl.training.tasks import is_builtin


def can_be_shared(step: Step, context: Context) -> bool:
    """Whether the processes of a group run a step together; all others are steps of one process."""
    if step.operation not in ("train", "evaluate"):
        return False
    data = context.dataset(step.args["data"], step.seed)
    if not isinstance(data.shape, tuple):
        reason = "the data has several inputs"
    elif step.operation == "train" and data.task.phases and not is_builtin(data.task):
        reason = f"the task `{data.task.name}` has phases of its own, of which nothing is known"
    else:
        return True
    context.hooks.step_warning(step.key, f"one process runs this step alone: {reason}")
    return False
