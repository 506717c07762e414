"""Check the controls that start where the ticket starts and choose what is left otherwise (TD498, TD499, TD536)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.lang.findings.suggestions import join_or
from tickdsl.lang.registries import CRITERIA
from tickdsl.lang.vocabulary import CHOICE_CONTROLS
from tickdsl.plan.criterion_controls import CRITERION_CONTROLS, starts_from_dense_weights
from tickdsl.plan.model import Arm, Plan
from tickdsl.plan.prune_arguments import has_one_scope


def diagnostics(plan: Plan) -> Iterator[Diagnostic]:
    """Yield a finding for each control that cannot be made for one of the arms.

    Arms whose tickets start from other weights have no such control; that none has it is an error.
    """
    pruned = [arm for arm in plan.arms if arm.rounds]
    starting = [arm for arm in pruned if starts_from_dense_weights(arm)]
    for control in (control for control in CHOICE_CONTROLS if control in plan.rivals):
        others = [arm for arm in pruned if arm not in starting]
        if others:
            yield _without_dense_weights(plan, others[0], control, is_error=not starting)
        found = (_finding(plan, arm, control) for arm in starting)
        yield from itertools.islice((finding for finding in found if finding is not None), 1)


def _without_dense_weights(plan: Plan, arm: Arm, control: str, *, is_error: bool) -> Diagnostic:
    last = arm.rounds[-1]
    start = f"`{control}` starts from the ticket's weights, but those of arm `{arm.name}` are left of its own choice"
    return _diagnostic(
        "TD498" if is_error else "TD536",
        f"{start}: other units have no weights there" if is_error else f"{start}: it has no such control",
        plan,
        arm,
        Label(last.tail[-1].span if last.tail else last.prune.span, "the ticket's training starts here"),
        help="use `rewind weights to …` in this arm, or compare with `random-structure`",
    )


def _finding(plan: Plan, arm: Arm, control: str) -> Diagnostic | None:
    criterion = CRITERION_CONTROLS.get(control)
    if criterion is None:
        return None
    prunes = [group.prune for group in arm.rounds]
    if not has_one_scope(arm.rounds):
        other = next(group.prune for group in arm.rounds if not has_one_scope((arm.rounds[0], group)))
        message = f"`{control}` prunes units of one kind, but arm `{arm.name}` prunes several, or in other layers"
        label = Label(other.span, "another unit, or other layers")
        return _diagnostic("TD499", message, plan, arm, label, help="leave it out, or prune one unit in these layers")
    if prunes[0].unit not in CRITERIA[criterion.name].units:
        message = f"`{control}` cannot rank {prunes[0].unit}, which arm `{arm.name}` prunes"
        ranking = [f"`{name}`" for name, c in CRITERION_CONTROLS.items() if prunes[0].unit in CRITERIA[c.name].units]
        label = Label(prunes[0].span, f"prunes {prunes[0].unit}")
        return _diagnostic("TD499", message, plan, arm, label, help=f"use {join_or(ranking)}")
    return None


def _diagnostic(code: str, message: str, plan: Plan, arm: Arm, label: Label, help: str) -> Diagnostic:
    return Diagnostic(code, message, plan.compare_span or arm.span, secondary=(label,), help=help)
