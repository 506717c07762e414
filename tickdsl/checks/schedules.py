"""Check recipes, and that rounds are trained; the lengths of trainings."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import attrs

from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.meaning.settings import in_plan_words, location_at_fault
from tickdsl.lang.meaning.values import ValueLocation
from tickdsl.moments import INIT, Moment
from tickdsl.plan.model import Arm, Options, Prune, Recalibrate, Retrain, Rewind, Rounds, Zeroing
from tickdsl.plan.training_cycles import cycles_as_rounds
from tickdsl.plurals import plural
from tickdsl.training import catalogue
from tickdsl.training.recipes.recipe import Recipe, steps_per_epoch


def diagnostics(arm: Arm) -> Iterator[Diagnostic]:
    """Yield findings about an arm's recipes and the trainings after its prunes."""
    arm = cycles_as_rounds(arm)
    yield from _check_recipe(arm)
    if arm.fork is not None:
        places = {"recipe_span": arm.fork.recipe_span, "recipe_places": arm.fork.recipe_places}
        yield from _check_recipe(attrs.evolve(arm, recipe=arm.fork.recipe, fork=None, **places))
    rounds = list(arm.distinct_rounds.values())
    for group, following in itertools.zip_longest(rounds, rounds[1:]):
        yield from _check_tail(arm, group, following)
    yield from _check_init_rewind(arm)


def retraining_length(arm: Arm) -> Moment | None:
    """How long the arm trains after its last prune, in the recipe's unit; None if the units cannot be converted."""
    arm = cycles_as_rounds(arm)
    if not arm.rounds:
        return None
    last = arm.rounds[-1]
    length, rewind = final_length(arm, last)
    start = rewind.to if rewind is not None else None
    if start is None:
        # After `at init` the whole recipe is left; without a tail there is no training at all.
        start = last.prune.at if last.prune.at is not None else Moment(100, "%")
        start = INIT if any(isinstance(tail, Retrain) for tail in last.tail) else start
        if start.amount == 100 and prunes_while_training(last.prune):
            start = INIT  # the training in which it prunes is that of the ticket
    if not start.amount:
        return length
    if start.unit == "%":
        return Moment(length.amount * (100 - start.amount) / 100, length.unit)
    if start.unit == length.unit:
        return Moment(length.amount - start.amount, length.unit)
    per_epoch = arm_steps_per_epoch(arm)
    if per_epoch is None:
        return None
    return Moment(
        length.amount - (start.amount * per_epoch if length.unit == "it" else start.amount / per_epoch), length.unit
    )


def prunes_while_training(prune: Prune) -> bool:
    """Whether a prune removes its units in the training before it, in parts or softly."""
    return prune.gradual is not None or isinstance(prune.via, Zeroing)


def final_length(arm: Arm, group: Rounds) -> tuple[Moment, Rewind | None]:
    """The length of the recipe trained after a prune, and the rewind that sets its start, if any."""
    index = next((index for index, each in enumerate(arm.rounds) if each is group), len(arm.rounds))
    length, rewind, retrained = Moment.parse(str(arm.recipe["length"])), None, False
    for number, tail in enumerate(group.tail):
        match tail:
            case Rewind():
                rewind = tail
                if not retrained:
                    length = Moment.parse(str(arm.recipe_of(index, number)["length"]))
            case Retrain(_, recipe):
                length, rewind, retrained = Moment.parse(str(recipe["length"])), None, True
    return length, rewind


def _check_init_rewind(arm: Arm) -> Iterator[Diagnostic]:
    info = catalogue.MODELS[arm.model.name]
    deep = info.residual or info.family in ("vgg", catalogue.TORCHVISION_FAMILY)
    if arm.model.options.get("weights"):
        return  # its initial weights are pretrained
    for group in arm.rounds:
        at_init = group.prune.at is not None and not group.prune.at.amount
        for tail in group.tail:
            if deep and not at_init and isinstance(tail, Rewind) and tail.what == "weights" and not tail.to.amount:
                yield Diagnostic(
                    "TD309",
                    f"{arm.model.name} is deep: tickets rewound to init rarely win",
                    tail.span,
                    notes=("Frankle, Dziugaite, Roy & Carbin (2020) rewind to a few hundred steps instead",),
                    help="use e.g. `rewind weights to 500it`",
                )


def _check_recipe(arm: Arm) -> Iterator[Diagnostic]:
    try:
        recipe = Recipe.from_dict(arm.recipe)
    except ValueError as error:
        yield _recipe_diagnostic(
            "TD305", f"invalid recipe: {in_plan_words(error)}", arm, location_at_fault(error, arm.recipe_places or {})
        )
        return
    per_epoch = arm_steps_per_epoch(arm)
    for number, milestone in enumerate(recipe.milestones):
        if reaches_end(milestone, recipe.length, per_epoch):
            message = f"milestone {milestone} must come before the end of training ({recipe.length})"
            place = (arm.recipe_places or {}).get(f"milestones.{number}")
            yield _recipe_diagnostic("TD306", message, arm, place, help="use an earlier milestone, or train longer")
            return
    yield from _check_order_of_milestones(arm, recipe, per_epoch)
    if recipe.warmup.amount and reaches_end(recipe.warmup, recipe.length, per_epoch):
        message = f"the warm-up of {recipe.warmup} must end before the training does ({recipe.length})"
        place = (arm.recipe_places or {}).get("warmup")
        yield _recipe_diagnostic("TD313", message, arm, place, help="use a shorter warm-up, or train longer")


def _check_order_of_milestones(arm: Arm, recipe: Recipe, per_epoch: int | None) -> Iterator[Diagnostic]:
    """Check that milestones of different units are in order; `Recipe` checks those of one unit."""
    if per_epoch is None:
        return
    total = recipe.steps(per_epoch)
    steps = [milestone.steps(per_epoch, total) for milestone in recipe.milestones]
    for number, (before, after) in enumerate(itertools.pairwise(steps), start=1):
        if after <= before:
            message = (
                f"milestone {recipe.milestones[number]} (step {after}) must come after {recipe.milestones[number - 1]} "
                f"(step {before})"
            )
            place = (arm.recipe_places or {}).get(f"milestones.{number}")
            yield _recipe_diagnostic("TD305", message, arm, place, help=f"one epoch has {plural(per_epoch, 'step')}")
            return


def valid_recipe(fields: Options) -> Recipe | None:
    """A recipe; None if something is wrong with it, which `diagnostics` reports (TD305)."""
    try:
        return Recipe.from_dict(fields)
    except ValueError:
        return None


def _recipe_diagnostic(
    code: str, message: str, arm: Arm, place: ValueLocation | None, help: str | None = None
) -> Diagnostic:
    """A finding about one value of a recipe, or about the whole recipe if `place` is None."""
    if place is None:
        return Diagnostic(code, message, arm.recipe_span, help=help)
    return Diagnostic(code, message, place.span, secondary=place.references, help=help)


def reaches_end(moment: Moment, length: Moment, per_epoch: int | None) -> bool:
    """Whether a moment is at or after the end of a recipe; units are converted if the steps per epoch are known."""
    if per_epoch is not None:
        total = length.steps(per_epoch)
        return moment.steps(per_epoch, total) >= total
    if moment.unit == "%":
        return moment.amount >= 100
    return moment.unit == length.unit and moment.amount >= length.amount


def arm_steps_per_epoch(arm: Arm) -> int | None:
    """Steps per epoch of an arm's training; None if the size of the data is unknown without loading it."""
    images = catalogue.known_size(arm.data.name, "train", arm.data.options) or 0
    if arm.split is not None:
        images //= arm.split.parts
    batch = int(arm.recipe.get("batch", attrs.fields(Recipe).batch.default))
    return steps_per_epoch(images, batch) if images else None


def _check_tail(arm: Arm, group: Rounds, following: Rounds | None) -> Iterator[Diagnostic]:
    if group.joined or group.prune.at is not None or arm.transfer is not None or prunes_while_training(group.prune):
        return
    if not any(isinstance(tail, Rewind | Retrain | Recalibrate) for tail in group.tail):
        times = group.prune.times
        rounds = f"{times} pruning rounds" if times and times > 1 else "a pruning round"
        yield Diagnostic(
            "TD310",
            f"{rounds} without retraining: the pruned network is evaluated as it is",
            group.prune.span,
            help="to prune layers at different rates in one round, write `cycle 1 { prune …; prune …; rewind lr }`"
            if group.prune.within and following is not None and following.prune.within
            else "add `rewind lr`, `rewind weights to …` or `retrain …`",
        )
