"""Steps that end in their middle, as if their process had ended, after their checkpoint was saved."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

from step_runner import StepRunner

from tickdsl.engine.hooks import Hooks
from tickdsl.engine.steps.context import Context


class Killed(BaseException):
    """Ends a step as the end of its process would, after its checkpoint was saved."""


def kill_at(found: StepRunner, step: int) -> None:
    """Let the next training end before its optimiser step number `step`."""
    taken = itertools.count()

    def between_steps(save: Callable[[], None]) -> None:
        if next(taken) == step:
            save()
            raise Killed

    found.context = Context(found.context.settings, Hooks(between_steps=between_steps))


def results(found: StepRunner, key: str) -> dict[str, Any]:
    """The metrics of a step, without those that measure its time and energy."""
    return {name: value for name, value in found.metrics(key).items() if not re.search("time|second|energy|watt", name)}
