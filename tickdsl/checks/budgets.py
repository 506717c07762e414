"""How long the arms of a plan train, over all of their rounds."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from tickdsl.checks.schedules import arm_steps_per_epoch
from tickdsl.moments import INIT, Moment
from tickdsl.plan.model import Arm, Grow, Options, Penalty, Retrain, Rewind, Rounds
from tickdsl.plan.sparse_training import penalty_length
from tickdsl.plan.training_cycles import cycles_as_rounds


def total_epochs(arm: Arm) -> Fraction | None:
    """The epochs of the dense training and of all rounds up to the last ticket; None if they are not known."""
    arm = cycles_as_rounds(arm)
    per_epoch = arm_steps_per_epoch(arm)
    try:
        return sum(_trained_epochs(arm, per_epoch), Fraction(0))
    except _UnknownError:
        return None


class _UnknownError(Exception):
    """The number of rounds depends on results, or a length cannot be converted."""


def _trained_epochs(arm: Arm, per_epoch: int | None) -> Iterator[Fraction]:
    """Yield the epochs of the trainings of an arm, in order; those of equal rounds together."""
    start, stop = Fraction(0), _length(arm.dense_recipe, per_epoch)  # of the training that comes next
    for index, group in enumerate(arm.rounds):
        times = _times(group)
        # From the second round on, all rounds of a group are alike: they start where its tail says.
        for repeated in (1, times - 1)[: min(times, 2)]:
            at = stop if group.prune.at is None else _epochs(group.prune.at, stop, per_epoch)
            yield max(Fraction(0), at - start) * repeated
            if isinstance(group.prune.via, Penalty):
                yield _epochs(penalty_length(group.prune.via), Fraction(0), per_epoch) * repeated
            before_growing = _trained_before_growing(arm, index, stop, per_epoch)
            yield from (epochs * repeated for epochs in before_growing)
            start, stop = _next_training(arm, index, max(start, at), stop, per_epoch)
    yield max(Fraction(0), stop - start)


def _trained_before_growing(arm: Arm, index: int, stop: Fraction, per_epoch: int | None) -> Iterator[Fraction]:
    """Yield the epochs of the trainings that a `grow` of a round runs before it."""
    pending: tuple[Fraction, Fraction] | None = None
    for number, tail in enumerate(arm.rounds[index].tail):
        match tail:
            case Rewind() | Retrain():
                pending = _next_training(arm, index, Fraction(0), stop, per_epoch, number + 1)
            case Grow() if pending is not None:
                yield max(Fraction(0), pending[1] - pending[0])
                pending = None


def _next_training(
    arm: Arm, index: int, start: Fraction, stop: Fraction, per_epoch: int | None, tails: int | None = None
) -> tuple[Fraction, Fraction]:
    """Where the training after a round (or after the first `tails` of its tail) starts and stops, in its epochs."""
    retrained: Fraction | None = None
    for number, tail in enumerate(arm.rounds[index].tail[:tails]):
        match tail:
            case Retrain(_, recipe):
                retrained = _length(recipe, per_epoch)
                start, stop = Fraction(0), retrained
            case Rewind(what, to):
                stop = _length(arm.recipe_of(index, number), per_epoch)
                stop = retrained if what == "lr" and retrained is not None else stop
                start = _epochs(to, stop, per_epoch)
    return start, stop


def _times(group: Rounds) -> int:
    prune = group.prune
    if prune.times is None or prune.until is not None or prune.ends is not None or prune.settles is not None:
        raise _UnknownError
    return prune.times


def _length(recipe: Options, per_epoch: int | None) -> Fraction:
    return _epochs(Moment.parse(str(recipe["length"])), Fraction(0), per_epoch)


def _epochs(moment: Moment, length: Fraction, per_epoch: int | None) -> Fraction:
    if moment == INIT or not moment.amount:
        return Fraction(0)
    if moment.unit == "%":
        return moment.amount * length / 100
    if moment.unit == "ep":
        return moment.amount
    if per_epoch is None:
        raise _UnknownError
    return moment.amount / per_epoch
