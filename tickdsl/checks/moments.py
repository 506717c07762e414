"""Check the points in trainings that `at`, `rewind … to` and `until=` name: outside the training, or without effect."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from tickdsl.checks.schedules import arm_steps_per_epoch, final_length, reaches_end
from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.lang.meaning.values import ValueLocation
from tickdsl.moments import Moment
from tickdsl.plan.model import Arm, Distill, Fork, Retrain, Rewind, Rounds
from tickdsl.plan.training_cycles import cycles_as_rounds
from tickdsl.plurals import plural


def diagnostics(arm: Arm) -> Iterator[Diagnostic]:
    """Yield findings about the points in its trainings that an arm names."""
    arm = cycles_as_rounds(arm)
    if arm.fork is None:
        yield from _check_rounds(arm)
    else:
        yield from _check_rounds(before_fork(arm, arm.fork))
        yield from _check_rounds(after_fork(arm, arm.fork))


def _check_rounds(arm: Arm) -> Iterator[Diagnostic]:
    for group in arm.distinct_rounds.values():
        yield from _check_rewinds(arm, group)
        yield from _check_moments(arm, group)
    yield from _check_continued(arm)


def _check_continued(arm: Arm) -> Iterator[Diagnostic]:
    """Check that no `at` is before the moment at which the training before it starts (TD302)."""
    per_epoch, reported = arm_steps_per_epoch(arm), set()
    following = list(arm.rounds[1:])
    if not arm.rounds:
        return
    for group, after in zip(arm.rounds, [*following, arm.rounds[-1]], strict=True):
        repeated = [group] if (group.prune.times or 2) > 1 else []
        length, rewind = final_length(arm, group)
        if rewind is None:
            continue
        for other in [*repeated, *([after] if after is not group else [])]:
            at = other.prune.at
            if at is None or id(other) in reported or (at.amount == 0 and rewind.to.amount == 0):
                continue
            total = length.steps(per_epoch) if per_epoch is not None else None
            if _is_earlier(at, rewind.to, per_epoch, total):
                reported.add(id(other))
                place = other.prune.at_place or ValueLocation(other.prune.span)
                yield Diagnostic(
                    "TD302",
                    f"`at {at if at.amount else 'init'}` is before {rewind.to}, where the training before this prune "
                    "starts: nothing would be trained in between",
                    place.span,
                    secondary=(Label(rewind.span, "starts here"), *place.references),
                    help="prune later, or rewind to an earlier point",
                )


def _is_earlier(moment: Moment, other: Moment, per_epoch: int | None, total: int | None) -> bool:
    """Whether a moment is before another, as far as their units can be compared."""
    if per_epoch is not None:
        return moment.steps(per_epoch, total) < other.steps(per_epoch, total)
    return (moment.unit == other.unit or not moment.amount) and moment.amount < other.amount


def before_fork(arm: Arm, fork: Fork) -> Arm:
    """The part of an arm that the plan's recipe trains: the statements before the arms, and what restores weights."""
    rounds = []
    for index, group in enumerate(arm.rounds):
        tail = tuple(
            tail
            for number, tail in enumerate(group.tail)
            if arm.recipe_of(index, number) is fork.recipe or (isinstance(tail, Rewind) and tail.what == "weights")
        )
        if index < fork.rounds or tail:
            at = group.prune.at if index < fork.rounds else None
            rounds.append(attrs.evolve(group, prune=attrs.evolve(group.prune, at=at), tail=tail))
    return attrs.evolve(
        arm, recipe=fork.recipe, rounds=tuple(rounds), fork=None,
        recipe_span=fork.recipe_span, recipe_places=fork.recipe_places,
    )  # fmt: skip


def after_fork(arm: Arm, fork: Fork) -> Arm:
    """The part of an arm that its own recipe trains."""
    first, *later = arm.rounds[fork.rounds - 1 :]
    tail = first.tail[fork.tail :]
    restarts = any(isinstance(each, Rewind | Retrain) for each in first.tail)
    prune = attrs.evolve(first.prune, at=None) if restarts and first.prune.at is not None else first.prune
    return attrs.evolve(arm, rounds=(attrs.evolve(first, prune=prune, tail=tail), *later), fork=None)


def _check_rewinds(arm: Arm, group: Rounds) -> Iterator[Diagnostic]:
    at_start = group.prune.at is not None and not group.prune.at.amount
    for tail in group.tail:
        if not isinstance(tail, Rewind):
            continue
        if at_start and tail.to.amount:
            yield Diagnostic(
                "TD301",
                f"`rewind {tail.what} to {tail.to}` needs a training, but this prune is at init",
                tail.span,
                help="remove the rewind, or prune after training (without `at init`)",
            )
        elif at_start:
            yield Diagnostic(
                "TD303", f"`rewind {tail.what}` after `prune … at init` has no effect", tail.span, help="remove it"
            )


def _check_moments(arm: Arm, group: Rounds) -> Iterator[Diagnostic]:
    """Check that `at`, `to` and `until` are inside the recipe, do not round to step 0, and share a unit."""
    length, per_epoch = Moment.parse(str(arm.recipe["length"])), arm_steps_per_epoch(arm)
    rewinds = [tail for tail in group.tail if isinstance(tail, Rewind)]
    trained, rewind = final_length(arm, group)
    length = trained if rewind is not None else length
    named = [
        (f"to {tail.to}", tail.to, tail.to_place or ValueLocation(tail.span)) for tail in rewinds if tail is rewind
    ]
    named += [
        (f"until {tail.until}", tail.until, ValueLocation(tail.span))
        for tail in group.tail
        if isinstance(tail, Distill) and tail.until is not None and not reaches_end(tail.until, trained, per_epoch)
    ]
    if group.prune.at is not None:
        named.append((f"at {group.prune.at}", group.prune.at, group.prune.at_place or ValueLocation(group.prune.span)))
    for text, moment, place in named:
        if reaches_end(moment, length, per_epoch):
            yield Diagnostic(
                "TD302",
                f"`{text}` leaves nothing to train: the recipe ends at {length}",
                place.span,
                secondary=place.references,
                help="use an earlier point",
            )
        elif moment.amount and per_epoch is not None and moment.steps(per_epoch, length.steps(per_epoch)) == 0:
            message = (
                f"`{text}` is less than one step of the recipe, which has {plural(length.steps(per_epoch), 'step')}"
            )
            yield Diagnostic("TD302", message, place.span, secondary=place.references, help="use `init`")
    units = {moment.unit for _, moment, _ in named if moment.amount and moment.unit != "%"}
    if len(units) > 1:
        yield Diagnostic(
            "TD302",
            f"{' and '.join(f'`{text}`' for text, _, _ in named)} use different units",
            group.prune.span,
            help="use the same unit: epochs or steps",
        )
