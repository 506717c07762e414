"""Recipes and rewinding: what lies outside a training, what has no effect."""

from __future__ import annotations

from collections.abc import Iterator

from tickdsl.lang.diagnostics import Diagnostic
from tickdsl.moments import Moment
from tickdsl.plan.model import Arm, Plan, Rewind, Rounds
from tickdsl.training.recipes import Recipe


def findings(plan: Plan) -> list[Diagnostic]:
    """Findings about every arm's recipe and rewinds."""
    found: list[Diagnostic] = []
    for arm in plan.arms:
        found += _recipe(arm)
        for group in arm.rounds:
            found += _rewinds(arm, group)
            found += _tail(arm, group)
    return found


def _recipe(arm: Arm) -> Iterator[Diagnostic]:
    try:
        recipe = Recipe.from_dict(arm.recipe)
    except ValueError as error:
        yield Diagnostic("TD305", f"this recipe cannot be trained: {error}", arm.recipe_span)
        return
    for milestone in recipe.milestones:
        if milestone.unit == recipe.length.unit and milestone.amount >= recipe.length.amount:
            yield Diagnostic(
                "TD305",
                f"milestone {milestone} does not come before the training's end ({recipe.length})",
                arm.recipe_span,
                help="move it, or train longer",
            )


def _rewinds(arm: Arm, group: Rounds) -> Iterator[Diagnostic]:
    length = Moment.parse(str(arm.recipe["length"]))
    at_start = group.prune.at is not None and not group.prune.at.amount
    for tail in group.tail:
        if not isinstance(tail, Rewind):
            continue
        if at_start and tail.to.amount:
            yield Diagnostic(
                "TD301",
                f"`rewind {tail.what} to {tail.to}`: the pruning happens at init, before any training",
                tail.span,
                help="remove the rewind, or prune after training (without `at init`)",
            )
        elif at_start:
            yield Diagnostic(
                "TD303", f"`rewind {tail.what}` after `prune … at init` has no effect", tail.span, help="remove it"
            )
        if (tail.to.unit == length.unit and tail.to.amount >= length.amount) or (
            tail.to.unit == "%" and tail.to.amount >= 100
        ):
            yield Diagnostic(
                "TD302",
                f"`to {tail.to}` leaves nothing to train: the recipe ends at {length}",
                tail.span,
                help="rewind to an earlier moment",
            )


def _tail(arm: Arm, group: Rounds) -> Iterator[Diagnostic]:
    if group.prune.at is None and not any(isinstance(tail, Rewind) for tail in group.tail):
        times = group.prune.times
        rounds = f"{times} pruning rounds" if times and times > 1 else "a pruning round"
        yield Diagnostic(
            "TD310",
            f"{rounds} without retraining: what is left is measured as it is",
            group.prune.span,
            help="add `rewind lr` or `rewind weights to …`",
        )
