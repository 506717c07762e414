"""Steps that end in their middle, as if their process had ended, after their checkpoint was saved."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from step_runner import StepRunner, equal_states

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


def assert_continues_bit_for_bit(broken: StepRunner, whole: StepRunner, key: str, *, killed_at: Iterable[int]) -> None:
    """A training that is killed again and again, before these of its steps, ends as one that ran through.

    The parents of the step are run first; each attempt goes on from the checkpoint of the one before.
    """
    for parent in broken.study.step(key).parents.values():
        broken.run_step(parent)
    for at in killed_at:
        kill_at(broken, at)
        with pytest.raises(Killed):
            broken.run_step(key)
        assert key not in broken.context.store
    broken.context = Context(broken.context.settings)
    assert equal_states(broken.weights(key), whole.weights(key))
    assert results(broken, key) == results(whole, key)
