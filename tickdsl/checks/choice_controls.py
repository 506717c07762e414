"""Check the controls that start where the ticket starts and choose what is left otherwise (TD498, TD499)."""

from __future__ import annotations

from collections.abc import Iterator

from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.lang.findings.suggestions import join_or
from tickdsl.lang.registries import CRITERIA
from tickdsl.lang.vocabulary import CHOICE_CONTROLS
from tickdsl.plan.criterion_controls import CRITERION_CONTROLS
from tickdsl.plan.model import Arm, Evolve, Grow, Perturb, Plan, Retrain, Rewind
from tickdsl.plan.prune_arguments import has_one_scope


def diagnostics(plan: Plan) -> Iterator[Diagnostic]:
    """Yield a finding for each control that cannot be made for one of the arms."""
    controls = [control for control in CHOICE_CONTROLS if control in plan.rivals]
    for control in controls:
        for arm in (arm for arm in plan.arms if arm.rounds):
            if (found := _finding(plan, arm, control)) is not None:
                yield found
                break


def _finding(plan: Plan, arm: Arm, control: str) -> Diagnostic | None:
    if not starts_from_dense_weights(arm):
        last = arm.rounds[-1]
        return _diagnostic(
            "TD498",
            f"`{control}` starts from the ticket's weights, but those of arm `{arm.name}` are left of its own choice: "
            "other units have no weights there",
            plan,
            arm,
            Label(last.tail[-1].span if last.tail else last.prune.span, "the ticket's training starts here"),
            help="use `rewind weights to …` in this arm, or compare with `random-structure`",
        )
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


def starts_from_dense_weights(arm: Arm) -> bool:
    """Whether the training of every ticket starts from weights of the dense network, which all units have."""
    for group in arm.rounds:
        tails = [tail for tail in group.tail if isinstance(tail, Rewind | Retrain | Grow | Evolve | Perturb)]
        fresh = any(isinstance(tail, Retrain) and tail.fresh for tail in tails)
        rewound = any(isinstance(tail, Rewind) and tail.what == "weights" and not tail.current for tail in tails)
        interrupts = group.prune.at is not None and group.prune.settles is None and not tails
        if fresh or group.cycles or any(isinstance(tail, Grow | Evolve | Perturb) for tail in tails):
            return False
        if not (rewound or interrupts or group.joined):
            return False
    return all(group.prune.at is not None for group in arm.rounds) or bool(arm.rounds[-1].tail)


def _diagnostic(code: str, message: str, plan: Plan, arm: Arm, label: Label, help: str) -> Diagnostic:
    return Diagnostic(code, message, plan.compare_span or arm.span, secondary=(label,), help=help)
