"""Run several `train` steps together, as one stacked network."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

from tickdsl.engine.messages import Task
from tickdsl.engine.steps.context import Context
from tickdsl.engine.steps.trainings import PreparedTraining, prepare_training
from tickdsl.errors import TickdslError
from tickdsl.plan.plugin_code import verify_plugin_code
from tickdsl.training.history import TrainingHistory
from tickdsl.training.stacked.eligibility import stacking_obstacle, stacking_speedup
from tickdsl.training.stacked.training import train_stacked
from tickdsl.training.timing import MIN_SPEEDUP

#: Called with the key of a training that leaves the others early, and its error (None: it must run alone later).
OnLeave = Callable[[str, TickdslError | None], None]


def run_stacked_steps(tasks: Sequence[Task], context: Context, on_leave: OnLeave) -> None:
    """Run `train` steps as one stacked network and store their results.

    If the trainings cannot be stacked, or stacking is not faster, the first one runs alone, the others leave, and
    `context.hooks.not_stackable` is called with the reason.
    """
    start_time = time.monotonic()
    trainings: list[PreparedTraining] = []
    for task in tasks:
        try:
            verify_plugin_code(task.step.args)
            trainings.append(prepare_training(task.step, context, task.prefixes))
        except TickdslError as error:
            on_leave(task.step.key, error)
    reason = _reason_against_stacking(trainings, context) if len(trainings) > 1 else None
    if reason is not None:
        context.hooks.not_stackable(trainings[0].step.key, reason)
        for training in trainings[1:]:
            on_leave(training.step.key, None)
        trainings = trainings[:1]
    if len(trainings) > 1:
        _train_stacked(trainings, context, on_leave, start_time)
    elif trainings:
        context.store_result(trainings[0].step, trainings[0].run, time.monotonic())  # without the time of the others


def _train_stacked(
    trainings: Sequence[PreparedTraining], context: Context, on_leave: OnLeave, start_time: float
) -> None:
    def pause() -> None:
        for training in trainings:
            training.pause()

    def before_step() -> None:
        context.hooks.between_steps(pause)
        for training in trainings:
            training.count_usage()

    outcomes = train_stacked(
        [training.job for training in trainings],
        context.choices,
        device=context.device,
        before_step=before_step,
        on_leave=lambda index, error: on_leave(trainings[index].step.key, error),
    )
    for training, outcome in zip(trainings, outcomes, strict=True):
        if isinstance(outcome, TrainingHistory):
            save_result = partial(training.save_result, history=outcome)
            try:
                context.store_result(training.step, save_result, start_time, outcome.stack_size)
            except TickdslError as error:
                on_leave(training.step.key, error)


def _reason_against_stacking(trainings: Sequence[PreparedTraining], context: Context) -> str | None:
    """Why the trainings should not be stacked; None if they should. The speed matters only without `--stack N`."""
    jobs = [training.job for training in trainings]
    reason = stacking_obstacle(jobs, context.choices, context.device)
    if reason is not None or context.settings.stack is not None:
        return reason
    speedup = context.choices.settle(_question(trainings, context), lambda: stacking_speedup(jobs, context.device))
    return (
        None
        if speedup >= MIN_SPEEDUP
        else f"{len(trainings)} stacked trainings are only {speedup:.2f} times as fast as separate ones"
    )


def _question(trainings: Sequence[PreparedTraining], context: Context) -> str:
    device = context.device
    device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else "the processor"
    first = trainings[0]
    return (
        f"times that a step of {len(trainings)} trainings in one is faster than of one by one, on {device_name}, "
        f"{first.macs_share:.1g} of {first.trial.label}, {first.job.recipe.optimizer}, {first.job.recipe.precision}"
    )
