"""Which steps several processes run together."""

from __future__ import annotations

from tickdsl.engine.steps.context import Context
from tickdsl.plan.steps import Step
from tickdsl.training.tasks import is_builtin


def can_be_shared(step: Step, context: Context) -> bool:
    """Whether the processes of a group run a step together; all others are steps of one process."""
    if step.operation == "evaluate":
        return True
    return step.operation == "train" and not _has_own_phases(step, context)


def _has_own_phases(step: Step, context: Context) -> bool:
    """Whether parts of the network are trained in turn by losses of one's own, which may look at whole batches."""
    task = context.dataset(step.args["data"], step.seed).task
    if not task.phases or is_builtin(task):
        return False
    context.hooks.step_warning(
        step.key, f"the task `{task.name}` has phases of its own, so one process trains it: nothing is known of them"
    )
    return True
