"""Which steps several processes run together."""

from __future__ import annotations

from tickdsl.engine.steps.context import Context
from tickdsl.plan.search_steps import is_search
from tickdsl.plan.steps import Step
from tickdsl.pruning.criteria import CRITERIA
from tickdsl.training.evaluation import shares_tests
from tickdsl.training.tasks import is_builtin


def can_be_shared(step: Step, context: Context) -> bool:
    """Whether the processes of a group run a step together; all others are steps of one process."""
    match step.operation:
        case "train" | "evaluate":
            return _is_shared_training(step, context)
        case "candidate":
            return _evaluates_together(step, context)
        case "prune" if is_search(step):
            return _evaluates_together(step, context)
        case "prune":
            # What is measured on a machine is measured by one process, while no other keeps it busy.
            criterion = CRITERIA.get(step.args.get("by", ""))
            shares = criterion is not None and criterion.shares_batches and step.args.get("of") != "latency"
        case "grow":
            shares = step.args.get("by") == "gradient"
        case "refill":
            shares = step.args["by"] == "saliency"
        case _:
            return False
    # Numbers that a network draws depend on the batches before.
    return shares and not context.dataset(step.args["data"], step.seed).task.draws_in_tests


def _is_shared_training(step: Step, context: Context) -> bool:
    data = context.dataset(step.args["data"], step.seed)
    if not isinstance(data.shape, tuple):
        reason = "the data has several inputs"
    elif step.operation == "train" and data.task.phases and not is_builtin(data.task):
        reason = f"the task `{data.task.name}` has phases of its own, of which nothing is known"
    else:
        return True
    context.hooks.step_warning(step.key, f"one process runs this step alone: {reason}")
    return False


def _evaluates_together(step: Step, context: Context) -> bool:
    """Whether the processes share the tests of the candidates of a search."""
    data = context.dataset(step.args["data"], step.seed)
    return isinstance(data.shape, tuple) and shares_tests(data.task)
