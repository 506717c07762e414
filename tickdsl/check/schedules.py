"""Recipes and rewinding: what lies outside a training, what has no effect."""

from __future__ import annotations

from collections.abc import Iterator

from tickdsl.lang.diagnostics import Diagnostic
from tickdsl.moments import Moment
from tickdsl.plan.model import Arm, Plan, Rewind, Rounds
from tickdsl.training import catalogue
from tickdsl.training.recipes import Recipe, steps_per_epoch


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
        if _leaves_nothing(arm, tail.to, length):
            yield Diagnostic(
                "TD302",
                f"`to {tail.to}` leaves nothing to train: the recipe ends at {length}",
                tail.span,
                help="rewind to an earlier moment",
            )


def _leaves_nothing(arm: Arm, moment: Moment, length: Moment) -> bool:
    """Whether a moment is the recipe's end or later, as far as the data's size is known without reading them."""
    if moment.unit == "%":
        return moment.amount >= 100
    if moment.unit == length.unit:
        return moment.amount >= length.amount
    options, info = arm.data.options, catalogue.DATASETS[arm.data.name]
    pictures = options.get("samples") or options.get("train") or info.train
    if not pictures:
        return False
    if arm.split is not None:
        pictures = int(pictures) // arm.split.parts
    per_epoch = steps_per_epoch(int(pictures), int(arm.recipe.get("batch", Recipe(length=length).batch)))
    return moment.steps(per_epoch) >= length.steps(per_epoch)


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
