"""Check the trainings after a prune: distillation outside of them, and recipes that they replace."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from tickdsl.checks.schedules import arm_steps_per_epoch, final_length, reaches_end, valid_recipe
from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.lang.writing.cycles import is_single_round
from tickdsl.moments import INIT, Moment
from tickdsl.plan.model import Arm, Distill, Retrain, Rounds, Transfer
from tickdsl.plan.training_cycles import cycles_as_rounds
from tickdsl.plurals import plural
from tickdsl.training.recipes.recipe import Recipe


def diagnostics(arm: Arm) -> Iterator[Diagnostic]:
    """Yield findings about the trainings after the prunes of an arm."""
    arm = cycles_as_rounds(arm)
    if arm.transfer is not None:
        yield from _check_before_transfer(arm, arm.rounds[-1], arm.transfer)
        for group in arm.distinct_rounds.values():
            yield from _check_start_after_transfer(arm, group, arm.transfer)
            yield from _check_moments_after_transfer(arm, group, arm.transfer)
    for group in arm.distinct_rounds.values():
        yield from _check_distillation(arm, group)
        yield from _check_interrupted(arm, group)
        for tail in group.tail:
            if isinstance(tail, Retrain) and tail.schedule == "recipe":
                yield from _check_moments(arm, tail)


def _check_moments(arm: Arm, retrain: Retrain) -> Iterator[Diagnostic]:
    """Check that a recipe's milestones and warm-up are over before its end, as those of `train` (TD306, TD313)."""
    recipe = Recipe.from_dict(retrain.recipe)
    base = valid_recipe(arm.recipe)
    same_steps = base is not None and recipe.batch == base.batch
    per_epoch = arm_steps_per_epoch(arm) if same_steps else None
    for milestone in recipe.milestones:
        if reaches_end(milestone, recipe.length, per_epoch):
            message = f"milestone {milestone} must come before the end of the retraining ({recipe.length})"
            yield Diagnostic("TD306", message, retrain.span, help="use an earlier milestone, or train longer")
            return
    if recipe.warmup.amount and reaches_end(recipe.warmup, recipe.length, per_epoch):
        message = f"the warm-up of {recipe.warmup} must end before the retraining does ({recipe.length})"
        yield Diagnostic("TD313", message, retrain.span, help="use a shorter warm-up, or train longer")


def _check_distillation(arm: Arm, group: Rounds) -> Iterator[Diagnostic]:
    """Check that `distill … until=` ends within the training that it applies to (TD302)."""
    length, rewind = final_length(arm, group)
    retrained = any(isinstance(tail, Retrain) for tail in group.tail)
    start = rewind.to if rewind is not None else (INIT if retrained or group.prune.at is None else group.prune.at)
    per_epoch = arm_steps_per_epoch(arm)
    for tail in group.tail:
        if not isinstance(tail, Distill) or tail.until is None:
            continue
        until = _absolute(tail.until, length)
        if _is_after(until, length, per_epoch):
            message = f"`until={tail.until}` is after the end of the training ({length})"
            yield Diagnostic("TD302", message, tail.span, help="use an earlier point, or leave out `until=`")
        elif not _is_after(until, _absolute(start, length), per_epoch):
            begins = f"at {start}" if start.amount else "at init"
            message = f"`until=` ends the distillation before the training begins ({begins})"
            yield Diagnostic("TD302", message, tail.span, help="use a later point, or remove the `distill`")


def _check_before_transfer(arm: Arm, last: Rounds, transfer: Transfer) -> Iterator[Diagnostic]:
    """Check that what is distilled is trained on the teacher's data, and not after a transfer (TD519)."""
    if any(group is last for group in arm.rounds[:-1]) or not is_single_round(last.prune):
        return  # the rounds before the last one are trained on the teacher's data
    for tail in last.tail:
        if isinstance(tail, Distill):
            yield Diagnostic(
                "TD519",
                f"nothing is distilled: the next training is on {transfer.data.name}, which the teacher does not know",
                tail.span,
                secondary=(Label(transfer.span, "the transfer"),),
                help="remove it",
            )


def _check_start_after_transfer(arm: Arm, group: Rounds, transfer: Transfer) -> Iterator[Diagnostic]:
    """Check that the training on other data, which may have fewer steps per epoch, starts before its end (TD302).

    Every level is transferred, so this is checked for the rounds of every group.
    """
    elsewhere = attrs.evolve(arm, data=transfer.data, split=None)
    tail = transfer.tail or group.tail
    length, rewind = final_length(elsewhere, group if tail is group.tail else attrs.evolve(group, tail=tail))
    interrupts = rewind is None and not any(isinstance(each, Retrain) for each in tail)
    start = rewind.to if rewind is not None else (group.prune.at if interrupts else None)
    per_epoch = arm_steps_per_epoch(elsewhere)
    if start is not None and start.amount and per_epoch is not None and reaches_end(start, length, per_epoch):
        steps = plural(length.steps(per_epoch), "step")
        yield Diagnostic(
            "TD302",
            f"the training on {transfer.data.name} starts at {start}, and has {steps}: nothing is left to train",
            (rewind or group.prune).span,
            secondary=(Label(transfer.span, "the transfer"),),
            help="start it earlier, or set it with `transfer to … { retrain … }`",
        )


def _check_moments_after_transfer(arm: Arm, group: Rounds, transfer: Transfer) -> Iterator[Diagnostic]:
    """Check that milestones and warm-up are over before the training on other data is, if they are on the arm's data.

    The findings are those of `train`: TD306, TD313.
    """
    retrains = [tail for tail in transfer.tail or group.tail if isinstance(tail, Retrain)]
    recipe = valid_recipe(retrains[-1].recipe if retrains else arm.recipe)
    if recipe is None:
        return
    batch = {**arm.recipe, "batch": recipe.batch}
    there = arm_steps_per_epoch(attrs.evolve(arm, data=transfer.data, split=None, recipe=batch))
    here = arm_steps_per_epoch(attrs.evolve(arm, recipe=batch))
    if there is None:
        return
    steps = f"{plural(recipe.length.steps(there), 'step')} on {transfer.data.name}"
    late = [moment for moment in recipe.milestones if reaches_end(moment, recipe.length, there)]
    if late and not (transfer.tail and retrains) and any(reaches_end(moment, recipe.length, here) for moment in late):
        return  # reported for the arm's own data
    if late:
        message = f"milestone {late[0]} must come before the end of training ({recipe.length}: {steps})"
        hint = "use an earlier milestone, train longer, or set the training with `transfer to … { retrain … }`"
        yield Diagnostic("TD306", message, transfer.span, help=hint)
    elif recipe.warmup.amount and reaches_end(recipe.warmup, recipe.length, there):
        if not (transfer.tail and retrains) and reaches_end(recipe.warmup, recipe.length, here):
            return
        message = f"the warm-up of {recipe.warmup} must end before the training does ({recipe.length}: {steps})"
        hint = "use a shorter warm-up, train longer, or set the training with `transfer to … { retrain … }`"
        yield Diagnostic("TD313", message, transfer.span, help=hint)


def _check_interrupted(arm: Arm, group: Rounds) -> Iterator[Diagnostic]:
    """Warn about a `retrain` that takes the place of the training that the prune interrupts (TD314)."""
    prune = group.prune
    if prune.at is None or prune.settles is not None:
        return
    recipe = Moment.parse(str(arm.dense_recipe["length"]))
    at = f"at {prune.at}" if prune.at.amount else "at init"
    for tail in group.tail:
        if isinstance(tail, Retrain):
            length = Moment.parse(str(tail.recipe["length"]))
            yield Diagnostic(
                "TD314",
                f"`retrain {tail.schedule}` takes the place of the recipe ({recipe}), which this prune interrupts "
                f"{at}: the pruned network trains for {length}",
                tail.span,
                secondary=(Label(prune.span, "the prune"),),
                help=f"remove `retrain` to go on with the recipe, or `{at}` to prune after it",
            )


def _absolute(moment: Moment, length: Moment) -> Moment:
    """A moment of a recipe of this length in epochs or steps."""
    return Moment(moment.amount * length.amount / 100, length.unit) if moment.unit == "%" else moment


def _is_after(moment: Moment, other: Moment, per_epoch: int | None) -> bool:
    """Whether a moment is after another; if their units cannot be compared, whether it is after init."""
    if not other.amount or not moment.amount:
        return bool(moment.amount)
    return not reaches_end(other, moment, per_epoch) if _comparable(moment, other, per_epoch) else True


def _comparable(moment: Moment, other: Moment, per_epoch: int | None) -> bool:
    return per_epoch is not None or moment.unit == other.unit
