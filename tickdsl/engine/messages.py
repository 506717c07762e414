"""Messages between the interpreter and its workers; they can be pickled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from tickdsl.plan.measurement_steps import EXCLUSIVE_OPERATIONS
from tickdsl.plan.steps import Step
from tickdsl.records.transfers import Transfers

#: Commands to a worker, which obeys them between optimiser steps.
RUN, STOP, PAUSE = 0, 1, 2


@attrs.frozen
class Task:
    """A step to run, and the rewind points, by moment, whose results it stores on the way."""

    step: Step
    prefixes: Mapping[str, Step]

    @property
    def runs_alone(self) -> bool:
        """Whether no other task of the run may run on the same machine."""
        return self.step.operation in EXCLUSIVE_OPERATIONS


@attrs.frozen
class AtWork:
    """Tells a worker how many workers of the run are running tasks on its device."""

    workers: int


@attrs.frozen
class Progress:
    """The progress of a training: epoch, epochs, loss, accuracy, lr."""

    key: str
    report: Mapping[str, Any]


@attrs.frozen
class SearchProgress:
    """A search has `done` of at most `total` evaluations, those included that were stored before."""

    key: str
    done: int
    total: int


@attrs.frozen
class StepWarning:
    """A warning for the user, e.g. that a damaged checkpoint was ignored."""

    key: str
    message: str


@attrs.frozen
class LogMessage:
    """A message for the log, e.g. about a measured choice."""

    message: str


@attrs.frozen
class RewindPointSaved:
    """A training has come to a rewind point, whose result, that of a step of its own, is stored.

    is_new: whether it has stored it; a training that another process began may find it there.
    """

    key: str
    is_new: bool = True


@attrs.frozen
class CheckpointSaved:
    """A checkpoint of a training was saved after `epoch` epochs."""

    key: str
    epoch: float


@attrs.frozen
class Paused:
    """A training has saved a checkpoint and is paused."""

    key: str


@attrs.frozen
class NotStackable:
    """Trainings like this one should not be stacked, for this reason."""

    key: str
    reason: str


@attrs.frozen
class Outcome:
    """How a task ended.

    `status` is `done`, `stopped` (a checkpoint was saved), `apart` (it could not run together with the other tasks and
    must run alone) or `failed` (`error` and `hint` are for the user, `trace` is for the log).
    """

    key: str
    status: str
    seconds: float = 0.0
    error: str | None = None
    hint: str | None = None
    trace: str | None = None


@attrs.frozen
class Transferred:
    """What the worker has asked of a bucket since the last such message."""

    transfers: Transfers


@attrs.frozen
class WorkerLost:
    """The worker process of a task has died; `reason` says how."""

    key: str
    reason: str


@attrs.frozen
class NodeLost:
    """The machine that a task ran on has left the cluster, through no fault of the task; `node` is its name."""

    key: str
    node: str


Message = (
    Progress
    | SearchProgress
    | StepWarning
    | LogMessage
    | CheckpointSaved
    | RewindPointSaved
    | Paused
    | NotStackable
    | Outcome
    | Transferred
    | WorkerLost
    | NodeLost
)


class Stopped(Exception):
    """Raised between optimiser steps to stop a training, after its checkpoint was saved."""
