"""Plug-ins of an arm, imported and tried: what reading their source could not tell."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from tickdsl.lang.diagnostics import Diagnostic
from tickdsl.plan.model import Arm, Options, Plan, Retrain
from tickdsl.plugins import PluginError, added, load, required
from tickdsl.training.recipes import Recipe

#: The steps of an epoch that a schedule is tried with where the data's size is not known.
_NOMINAL_EPOCH = 10


def findings(arm: Arm, per_epoch: int | None) -> Iterator[Diagnostic]:
    """Criteria and schedules of an arm that cannot be used. Its network and its data are built anyway, and so tried."""
    for group in arm.rounds:
        if added("criterion", group.prune.by):
            yield from _tried(partial(_criterion, group.prune.by), group.prune.by_span or group.prune.span)
    transferred = arm.transfer.tail if arm.transfer is not None else ()
    tails = [tail for group in arm.rounds for tail in group.tail] + list(transferred)
    retrainings = [(tail.recipe, tail.span) for tail in tails if isinstance(tail, Retrain)]
    for fields, span in [(arm.recipe, arm.recipe_span), *retrainings]:
        if added("schedule", str(fields.get("schedule", ""))):
            yield from _tried(partial(_schedule, fields, per_epoch or _NOMINAL_EPOCH), span)


def metrics(plan: Plan) -> Iterator[Diagnostic]:
    """Metrics of a plan that cannot be imported."""
    for name in plan.metrics:
        if added("metric", name):
            yield from _tried(partial(_metric, name), plan.report_span or plan.arms[0].span)


def _criterion(name: str) -> None:
    from tickdsl.tickets.criteria import criterion

    criterion(name)


def _schedule(recipe: Options, per_epoch: int) -> None:
    with contextlib.suppress(ValueError):  # the recipe's own mistake, which has its own finding
        Recipe.from_dict(recipe).learning_rates(per_epoch)


def _metric(name: str) -> None:
    load(required("metric", name))


def _tried(attempt: Callable[[], None], span: Any) -> Iterator[Diagnostic]:
    try:
        attempt()
    except PluginError as error:
        yield unusable(error, span)


def unusable(error: PluginError, span: Any) -> Diagnostic:
    """The finding that an error of a plug-in is."""
    return Diagnostic("TD118", error.message, span, help=error.hint)
