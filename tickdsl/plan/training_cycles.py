"""Cycles of training as further rounds, for what looks at the trainings of an arm one after the other."""

from __future__ import annotations

from fractions import Fraction

import attrs

from tickdsl.plan.model import Arm, Prune, Rounds, Share, TrainingCycle

#: A prune before which nothing was pruned, and which prunes nothing.
_NOTHING = Prune("", "global", Share(Fraction(0)), "magnitude")


def cycles_as_rounds(arm: Arm) -> Arm:
    """The arm with a group of rounds for each cycle of training.

    The prune of such a group has the cycle's number of rounds, comes at the end of the training and stands for nothing:
    this arm has the trainings of the other one, but not its amounts. Before the first prune, its unit is empty.
    """
    if not arm.cycles and not any(group.cycles for group in arm.rounds):
        return arm
    rounds = [_as_rounds(_NOTHING, cycle) for cycle in arm.cycles]
    fork = arm.fork
    if fork is not None and not fork.rounds and fork.cycles:
        fork = attrs.evolve(fork, rounds=fork.cycles, tail=len(rounds[fork.cycles - 1].tail), cycles=0)
    known: dict[int, list[Rounds]] = {}  # groups that a `cycle` repeats stay one object
    for index, group in enumerate(arm.rounds):
        if id(group) not in known:
            known[id(group)] = [attrs.evolve(group, cycles=()), *(_as_rounds(group.prune, c) for c in group.cycles)]
        if arm.fork is not None and index == arm.fork.rounds - 1:
            count, tail = len(rounds) + 1 + arm.fork.cycles, arm.fork.tail
            tail = len(known[id(group)][arm.fork.cycles].tail) if arm.fork.cycles else tail
            fork = attrs.evolve(arm.fork, rounds=count, tail=tail, cycles=0)
        rounds += known[id(group)]
    return attrs.evolve(arm, rounds=tuple(rounds), cycles=(), fork=fork)


def _as_rounds(prune: Prune, cycle: TrainingCycle) -> Rounds:
    nothing = attrs.evolve(
        prune, times=cycle.times, until=None, ends=None, settles=None, at=None, gradual=None, via=None, span=cycle.span
    )
    return Rounds(nothing, cycle.tail)
