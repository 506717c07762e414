"""A process that trains one network together with the worker that has hired it."""

from __future__ import annotations

import os
import threading
import traceback
from contextlib import nullcontext
from multiprocessing.connection import Connection
from typing import Any

import attrs
import torch

from tickdsl.engine.hooks import Hooks
from tickdsl.engine.messages import Task
from tickdsl.engine.steps.context import Context
from tickdsl.engine.steps.operations import follow_step
from tickdsl.engine.steps.settings import Settings
from tickdsl.engine.workers.child_start import ignore_ending_signals
from tickdsl.engine.workers.process_setup import failure_of, set_up_process
from tickdsl.training.devices import deterministic_algorithms
from tickdsl.training.parallel.ranks import find_store, join

#: What a worker sends to its followers between optimiser steps: take the next one, or leave the task.
GO, LEAVE = 0, 1


@attrs.frozen
class Followed:
    """How a task of a worker has ended in a process that follows it; without an error, as it should."""

    rank: int
    error: str | None = None
    hint: str | None = None
    trace: str | None = None


class _Left(Exception):
    """Raised between optimiser steps when the worker has left the task."""


def follow(settings: Settings, rank: int, pipe: Connection, life: Connection) -> None:
    """The main function of such a process. It ends when the worker does: `life` is closed then, and never written."""
    ignore_ending_signals()
    threading.Thread(target=_end_with, args=(life,), daemon=True).start()
    set_up_process(settings)
    size = len(settings.group)
    ranks = join(find_store(_received(pipe), size), rank, size, torch.device(settings.device))

    def between_steps(save: object) -> None:
        if _received(pipe) == LEAVE:
            raise _Left

    context = Context(settings, Hooks(between_steps=between_steps))
    context.ranks = ranks
    while True:
        message = _received(pipe)
        if isinstance(message, Task):  # others are for a task that has already ended here
            pipe.send(_run(message, context, rank))


def _run(task: Task, context: Context, rank: int) -> Followed:
    try:
        with deterministic_algorithms() if context.settings.deterministic else nullcontext():
            follow_step(task.step, context)
    except _Left:
        pass
    except Exception as error:
        return Followed(rank, *failure_of(error), traceback.format_exc())
    return Followed(rank)


def _received(pipe: Connection) -> Any:
    """The next message from a pipe; if its other end is closed, this process ends: nobody needs it any more."""
    try:
        return pipe.recv()
    except (EOFError, OSError):
        os._exit(1)


def _end_with(life: Connection) -> None:
    _received(life)
