"""Train steps that are done together, as one stacked network."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

from tickdsl.engine.messages import Task
from tickdsl.engine.steps.context import Context
from tickdsl.engine.steps.trainings import Training, prepare
from tickdsl.errors import TickdslError
from tickdsl.metrics import energy
from tickdsl.plan.code import expect_code
from tickdsl.training.autotune import WORTH
from tickdsl.training.history import History
from tickdsl.training.stacked.eligibility import times_faster, why_not
from tickdsl.training.stacked.training import train_stacked

#: Told by its key who leaves before the others end: with what failed, or to be done apart.
Leaves = Callable[[str, TickdslError | None], None]


def perform_together(tasks: Sequence[Task], context: Context, leaves: Leaves) -> None:
    """Do train steps as one stacked network and store their results.

    Where the trainings cannot be stacked, or that does not pay, the first is done by itself, and `context.hooks.single`
    is told why.
    """
    began = time.monotonic()
    ready: list[Training] = []
    for task in tasks:
        try:
            expect_code(task.step.args)
            ready.append(prepare(task.step, context, task.prefixes))
        except TickdslError as error:
            leaves(task.step.key, error)
    why = _why_not(ready, context) if len(ready) > 1 else None
    if why is not None:
        context.hooks.single(ready[0].step.key, why)
        for each in ready[1:]:
            leaves(each.step.key, None)
        ready = ready[:1]
    if len(ready) > 1:
        _train(ready, context, leaves, began)
    elif ready:
        context.keep(ready[0].step, ready[0].carry_out, time.monotonic())  # the others' time is not its own


def _train(ready: Sequence[Training], context: Context, leaves: Leaves, began: float) -> None:
    meter = energy.Meter(energy.counter(context.device))

    def save() -> None:
        for each in ready:
            each.checkpoint.save_now()

    def between() -> None:
        meter.tick()
        context.hooks.between(save)

    endings = train_stacked(
        [each.given for each in ready],
        context.choices,
        device=context.device,
        between=between,
        leaves=lambda place, error: leaves(ready[place].step.key, error),
    )
    for each, ending in zip(ready, endings, strict=True):
        if isinstance(ending, History):
            leave = partial(each.leave, history=ending, meter=meter)
            try:
                context.keep(each.step, leave, began, ending.stacked)
            except TickdslError as error:
                leaves(each.step.key, error)


def _why_not(ready: Sequence[Training], context: Context) -> str | None:
    """What stands against stacking trainings, or that it does not pay; that is not asked where a person decided."""
    given = [each.given for each in ready]
    why = why_not(given, context.choices, context.device)
    if why is not None or context.settings.stack is not None:
        return why
    faster = context.choices.settle(_question(ready, context), lambda: times_faster(given, context.device))
    return None if faster >= WORTH else f"{len(ready)} of them in one are {faster:.2f} times as fast as one by one"


def _question(ready: Sequence[Training], context: Context) -> str:
    device = context.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "the processor"
    first = ready[0]
    return (
        f"times that a step of {len(ready)} trainings in one is faster than of one by one, on {name}, "
        f"{first.share:.1g} of {first.trial.words}, {first.given.recipe.optimizer}, {first.given.recipe.precision}"
    )
