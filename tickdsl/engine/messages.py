"""What passes between the interpreter and its workers. Plain values: they cross process borders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from tickdsl.plan.steps import Step

# What a worker is asked to be, read between optimiser steps.
RUN, STOP, PAUSE = 0, 1, 2


@attrs.frozen
class Task:
    """A step to do, with the rewinding points that it deposits on its way."""

    step: Step
    prefixes: Mapping[str, Step]


@attrs.frozen
class Progress:
    """How far a training is: epoch, epochs, loss, accuracy, lr."""

    key: str
    report: Mapping[str, Any]


@attrs.frozen
class StepWarning:
    """Something that a person should know, e.g. a damaged checkpoint that was ignored."""

    key: str
    message: str


@attrs.frozen
class LogMessage:
    """Something for the log, e.g. what a machine was found to do faster."""

    message: str


@attrs.frozen
class RewindPointSaved:
    """A training left the result of another step, a rewinding point, on its way."""

    key: str


@attrs.frozen
class CheckpointSaved:
    """A training kept a checkpoint: `epoch` epochs of it are safe."""

    key: str
    epoch: float


@attrs.frozen
class Paused:
    """A training waits, as it was asked to; its checkpoint is kept."""

    key: str


@attrs.frozen
class NotStackable:
    """Trainings like this one are not to be stacked, and why."""

    key: str
    reason: str


@attrs.frozen
class Outcome:
    """How a task ended: `done`, `stopped` (a checkpoint is kept), `apart` (it was not begun beside the others that it
    was given with) or `failed` (`error` for the person, `trace` for the log).
    """

    key: str
    status: str
    seconds: float = 0.0
    error: str | None = None
    hint: str | None = None
    trace: str | None = None


@attrs.frozen
class WorkerLost:
    """The worker process died under a task; `reason` says what is known of it."""

    key: str
    reason: str


Message = (
    Progress
    | StepWarning
    | LogMessage
    | CheckpointSaved
    | RewindPointSaved
    | Paused
    | NotStackable
    | Outcome
    | WorkerLost
)


class Stopped(Exception):
    """Raised between optimiser steps when the run is to stop; the loop has kept a checkpoint."""
