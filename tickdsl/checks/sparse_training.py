"""Check what changes masks or weights in a training: that it happens, within the training, and has what it needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from tickdsl.checks.schedules import arm_steps_per_epoch, final_length, reaches_end, valid_recipe
from tickdsl.graph.model import ModelGraph
from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.lang.syntax import Span
from tickdsl.moments import INIT, Moment
from tickdsl.plan.model import Arm, Evolve, Grow, Options, Prune, Retrain, Rewind, Rounds, Zeroing
from tickdsl.plan.training_cycles import cycles_as_rounds
from tickdsl.plurals import plural
from tickdsl.training import catalogue
from tickdsl.training.recipes.recipe import Recipe

_DEFAULT_BATCH = attrs.fields(Recipe).batch.default


def diagnostics(arm: Arm) -> Iterator[Diagnostic]:
    """Yield findings about the trainings of an arm in which masks or weights change, and about `grow`."""
    arm = cycles_as_rounds(arm)
    seen: set[int] = set()
    for index, group in enumerate(arm.rounds):
        if id(group) in seen:
            continue
        seen.add(id(group))
        before = arm.rounds[index - 1] if index else None
        yield from _check_prune(arm, group.prune, before)
        for number, tail in enumerate(group.tail):
            match tail:
                case Evolve():
                    yield from _check_evolve(arm, index, number, tail)
                case Grow():
                    yield from _check_grow(arm, index, number, tail)


def network_diagnostics(arm: Arm, graph: ModelGraph) -> Iterator[Diagnostic]:
    """Yield findings that need the traced network: a penalty on scales of batch norm that it does not have (TD456), and
    micro-batches that batch norm does not see as one batch (TD540).
    """
    recipes = [(arm.recipe, arm.recipe_span)]
    recipes += [(tail.recipe, tail.span) for tail in arm.tails if isinstance(tail, Retrain)]
    if any(name.rpartition(".")[2] == "running_mean" for name in graph.buffers):
        yield from _check_micro_batches(arm, recipes)
        return
    for recipe, span in recipes:
        if recipe.get("bn_l1"):
            yield Diagnostic(
                "TD456",
                f"`bn-l1=` penalises the scales of batch norm, but {arm.model.name} has no batch norm",
                span,
                help="remove it, or use a network with batch norm",
            )
            return


def _check_micro_batches(arm: Arm, recipes: Iterable[tuple[Options, Any]]) -> Iterator[Diagnostic]:
    for recipe, span in recipes:  # as they are written: one with a bad value is no `Recipe`
        batch, accumulate = recipe.get("batch", _DEFAULT_BATCH), recipe.get("accumulate", 1)
        if accumulate > 1:
            samples = plural(-(-batch // accumulate), catalogue.noun(arm.data.name))
            yield Diagnostic(
                "TD540",
                f"{arm.model.name} has batch norm, which normalises each micro-batch of {samples} "
                f"by itself: the result is not that of a batch of {batch}",
                span,
                help="remove `accumulate=`, use a network without batch norm, or add `# ok TD540`",
            )
            return


def _training_before(arm: Arm, before: Rounds | None) -> tuple[Moment, Moment]:
    """Where the training before a prune starts, and its length."""
    if before is None:
        return INIT, Moment.parse(str(arm.dense_recipe["length"]))
    length, rewind = final_length(arm, before)
    retrained = any(isinstance(tail, Retrain) for tail in before.tail)
    start = rewind.to if rewind is not None else (INIT if retrained else before.prune.at or INIT)
    return start, length


def _check_prune(arm: Arm, prune: Prune, before: Rounds | None) -> Iterator[Diagnostic]:
    """Check that a gradual or soft prune takes place within the training before it (TD451)."""
    start, length = _training_before(arm, before)
    per_epoch = arm_steps_per_epoch(arm)
    if isinstance(prune.via, Zeroing):
        if _is_after(prune.via.every, length, length, per_epoch):
            yield _schedule(
                f"`every={prune.via.every}` is longer than the training ({length})", _option_span(prune, "every"),
                "use a shorter interval, such as `every=1ep`",
            )  # fmt: skip
        return
    gradual = prune.gradual
    if gradual is None:
        return
    for word, moment in (("to", gradual.end), ("every", gradual.every)):
        if _is_after(moment, length, length, per_epoch):
            yield _schedule(
                f"`{word} {moment}` is after the end of the training ({length})", gradual.span, "use an earlier point"
            )
            return
    if not _is_after(gradual.end, gradual.start, length, per_epoch):
        yield _schedule(
            f"`from {_text(gradual.start)} to {_text(gradual.end)}` is empty: `from` must be before `to`",
            gradual.span, "swap them, or use a later `to`",
        )  # fmt: skip
    elif not _is_after(gradual.end, start, length, per_epoch) and start.amount:
        yield _schedule(
            f"`to {gradual.end}` is before the training of this prune starts (at {start})", gradual.span,
            "use a later point, or rewind further",
        )  # fmt: skip
    elif per_epoch is not None:
        total = length.steps(per_epoch)
        first, last, every = (moment.steps(per_epoch, total) for moment in (gradual.start, gradual.end, gradual.every))
        if first + max(1, every) >= last:
            yield _schedule(
                f"`every {gradual.every}` leaves no step between {_text(gradual.start)} and {_text(gradual.end)}: "
                "all weights would be removed at once",
                gradual.span, "use a shorter interval, or `at` to prune at one moment",
            )  # fmt: skip


def _check_evolve(arm: Arm, index: int, number: int, evolve: Evolve) -> Iterator[Diagnostic]:
    """Check that weights are exchanged, within the training, and that momentum exists if it decides."""
    group = arm.rounds[index]
    length, rewind = final_length(arm, group)
    retrained = any(isinstance(tail, Retrain) for tail in group.tail)
    start = rewind.to if rewind is not None else (INIT if retrained else group.prune.at or INIT)
    per_epoch = arm_steps_per_epoch(arm)
    recipe = valid_recipe(_recipe_before(arm, index, number))
    if recipe is None:
        return
    if evolve.grow == "momentum" and recipe.optimizer == "sgd" and not recipe.momentum:
        yield Diagnostic(
            "TD453",
            "`grow=momentum` lets the weights with the largest momentum in, but this training has `momentum=0`",
            evolve.span,
            help="use `grow=gradient`, or train with momentum",
        )
    if _is_after(evolve.until, length, length, per_epoch):
        yield _schedule(
            f"`until={evolve.until}` is after the end of the training ({length})", evolve.span, "use an earlier point"
        )
        return
    masked = any(each.prune.unit == "weights" for each in arm.rounds[: index + 1])
    if not masked and (group.prune.unit or arm.model.weights_file is None):
        unit = group.prune.unit  # empty before the first prune
        yield Diagnostic(
            "TD452",
            "`evolve` exchanges nothing: no weights were pruned, so no layer has a mask",
            evolve.span,
            secondary=(Label(group.prune.span, f"prunes {unit}"),) if unit else (),
            help="prune weights before it",
        )
        return
    if per_epoch is None:
        return
    total = length.steps(per_epoch)
    first, until, every = (moment.steps(per_epoch, total) for moment in (start, evolve.until, evolve.every))
    if (max(0, until - 1)) // max(1, every) <= first // max(1, every):
        yield Diagnostic(
            "TD452",
            f"`evolve` exchanges nothing: no multiple of `every={evolve.every}` is between the start of the training "
            f"({_text(start)}) and `until={evolve.until}`",
            evolve.span,
            help="use a shorter interval, or a later `until=`",
        )


def _recipe_before(arm: Arm, index: int, number: int) -> Options:
    """The recipe of the training that the statement `number` of the tail of a round changes."""
    recipe: Options = arm.recipe
    for position, tail in enumerate(arm.rounds[index].tail[:number]):
        match tail:
            case Retrain():
                recipe = tail.recipe
            case Rewind(what="weights"):
                recipe = arm.recipe_of(index, position)
    return recipe


def _check_grow(arm: Arm, index: int, number: int, grow: Grow) -> Iterator[Diagnostic]:
    """Check that there are weights to put back (TD457)."""
    earlier = [*(tail for group in arm.rounds[:index] for tail in group.tail), *arm.rounds[index].tail[:number]]
    pruned = any(group.prune.unit == "weights" for group in arm.rounds[: index + 1])
    last = next((tail for tail in reversed(arm.rounds[index].tail[:number]) if isinstance(tail, Grow)), None)
    if not pruned and arm.model.weights_file is None:
        reason = "no weights were pruned before it"
    elif last is not None and last.amount is None and last in earlier:
        reason = "the `grow` before it has put all weights back"
    else:
        return
    yield Diagnostic(
        "TD457", f"`grow weights` puts nothing back: {reason}", grow.span, help="remove it, or prune weights first"
    )


def _schedule(message: str, span: Span, help: str) -> Diagnostic:
    return Diagnostic("TD451", message, span, help=help)


def _option_span(prune: Prune, name: str) -> Span:
    span: Span = (prune.options_spans or {}).get(name) or prune.span
    return span


def _text(moment: Moment) -> str:
    return str(moment) if moment.amount else "init"


def _is_after(moment: Moment, other: Moment, length: Moment, per_epoch: int | None) -> bool:
    """Whether a moment is after another, as far as their units can be compared."""
    if per_epoch is not None:
        total = length.steps(per_epoch)
        return moment.steps(per_epoch, total) > other.steps(per_epoch, total)
    if moment.unit == "%" and other == length:
        return moment.amount > 100
    if moment.unit == other.unit or not other.amount:
        return moment.amount > other.amount
    return other != length or not reaches_end(moment, length, per_epoch)
