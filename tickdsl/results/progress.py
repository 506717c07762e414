"""How far a run is: one count and one time for the whole run, the same wherever it is shown."""

from __future__ import annotations

import attrs

from tickdsl.results.early_ends import ends_are_known
from tickdsl.results.formatting import format_duration
from tickdsl.results.state import FINISHED_STATUSES, RunState


@attrs.frozen
class Progress:
    """`done` of `total` steps; `share` of the work is done, in [0, 1], counted in epochs if there is training."""

    done: int
    total: int
    share: float


def run_progress(state: RunState) -> Progress:
    """The progress of a run, without steps that are skipped because an arm ended or a step failed."""
    counted = [step for step in state.steps.values() if step.status != "skipped"]
    done = sum(step.status in FINISHED_STATUSES for step in counted)
    epochs = sum(step.planned_epochs for step in counted if step.status != "stored")
    if epochs:
        share = 1.0 - sum(step.remaining_epochs for step in counted) / epochs
    else:
        share = done / len(counted) if counted else 0.0
    return Progress(done, len(counted), min(1.0, max(0.0, share)))


def time_left(state: RunState, passed: float = 0.0) -> str:
    """The estimated time left: `3:20 left`, `at most 3:20 left`; "" if it is unknown.

    passed: seconds since the last event.
    """
    if state.eta is None:
        return ""
    most = "at most " if state.open_ended and not ends_are_known(state.steps.values()) else ""
    return f"{most}{format_duration(max(0.0, state.eta - max(0.0, passed)))} left"
