"""Trainings that are interrupted between two optimiser steps, with a checkpoint, to be continued."""

from __future__ import annotations

import itertools

import pytest

from tickdsl.training.job import TrainingJob
from tickdsl.training.loop import train


def interrupt(job: TrainingJob, after: int) -> None:
    """Train a job that has a checkpoint, and interrupt it when `after` steps are taken and saved."""
    steps = itertools.count()

    def before_step() -> None:
        if next(steps) == after:
            assert job.checkpoint is not None
            job.checkpoint.save_now()
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(**job.as_kwargs(), before_step=before_step)
