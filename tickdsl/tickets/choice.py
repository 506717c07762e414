"""Which ticket of a run to take: what the user names, else the smallest winning ticket, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from tickdsl.errors import TicketError
from tickdsl.plurals import plural
from tickdsl.records.events import ArmInfo, Metric
from tickdsl.results.formatting import percent
from tickdsl.results.scores import ACCURACY, label, number, oriented, score_of, superlative
from tickdsl.results.standings import WINNING, Standing, compute_standings
from tickdsl.results.state import RunState

TICKET, DENSE = "ticket", "dense"


@attrs.frozen
class Wanted:
    """What a user asks for; None means that it is to be chosen.

    arm: the id or the name of an arm. sweep: the values that its sweeps must have, as text. contestant: `ticket`,
    `dense` (its level is 0), or a control.
    """

    arm: str | None = None
    level: int | None = None
    seed: int | None = None
    sweep: Mapping[str, str] = attrs.field(factory=dict)
    contestant: str = TICKET


@attrs.frozen
class Choice:
    """A measured network of a run, and why it was chosen: one clause each for arm and level, and for the seed.

    dense: the dense network of the same arm and seed, if it was measured.
    """

    arm: ArmInfo
    contestant: str
    level: int
    seed: int
    metric: Metric
    standing: Standing
    dense: Metric | None
    why_level: str
    why_seed: str

    def __str__(self) -> str:
        network = DENSE if self.contestant == DENSE else f"round {self.level}"
        if self.contestant not in (TICKET, DENSE):
            network = f"{self.contestant}, {network}"
        return f"{self.arm.id}, {network}, seed {self.seed}: {self.why_level}; {self.why_seed}"


def choose(state: RunState, wanted: Wanted) -> Choice:
    """The network of a run that is wanted; what is left open is chosen.

    Left open, arm and level are the smallest winning ticket, else the best one (of arms with several metrics, of those
    with the metric of the first), and the seed is the one with the median score (the worse one of two). Raises
    TicketError if the run has no such network.
    """
    contestant = DENSE if wanted.level == 0 and wanted.contestant == TICKET else wanted.contestant
    arms = _arms(state, wanted)
    standings = [
        standing
        for (arm, name, _), standing in compute_standings(state).items()
        if arm in arms and name == contestant and standing.score is not None
    ]
    if not standings:
        raise _nothing_measured(state, contestant, list(arms.values()))
    if contestant != DENSE and wanted.level is not None:
        at_level = [standing for standing in standings if standing.level == wanted.level]
        if not at_level:
            raise _no_such_level(wanted.level, standings, list(arms.values()), contestant)
        standings = at_level
    chosen, why_level = _best(standings, wanted, contestant, several_arms=len({s.arm for s in standings}) > 1)
    metrics = {
        seed: metric
        for (arm, name, level, seed), metric in state.metrics.items()
        if (arm, name, level) == (chosen.arm, contestant, chosen.level) and score_of(metric, chosen.metric) is not None
    }
    seed, why_seed = _seed(metrics, wanted.seed, chosen, contestant)
    return Choice(
        arm=arms[chosen.arm],
        contestant=contestant,
        level=chosen.level,
        seed=seed,
        metric=metrics[seed],
        standing=chosen,
        dense=state.metrics.get((chosen.arm, DENSE, 0, seed)),
        why_level=why_level,
        why_seed=why_seed,
    )


def _arms(state: RunState, wanted: Wanted) -> dict[str, ArmInfo]:
    """The arms that a user means, by id. Raises TicketError if there is none."""
    arms = {arm.id: arm for arm in state.arms}
    if wanted.arm is not None:
        named = {id_: arm for id_, arm in arms.items() if wanted.arm in (id_, arm.name)}
        if not named:
            raise TicketError(f"the run has no arm `{wanted.arm}`", f"its arms are {_listed(arms)}")
        arms = named
    for name, value in wanted.sweep.items():
        known = dict.fromkeys(str(arm.sweep[name]) for arm in arms.values() if name in arm.sweep)
        if not known:
            sweeps = dict.fromkeys(name for arm in arms.values() for name in arm.sweep)
            hint = f"its sweeps are {_listed(sweeps)}" if sweeps else "leave out --set: it has no sweeps"
            raise TicketError(f"--set {name}={value}: the run has no sweep `{name}`", hint)
        if not any(_same_value(value, text) for text in known):
            raise TicketError(f"--set {name}={value}: `{name}` has no such value", f"its values are {_listed(known)}")
        arms = {id_: arm for id_, arm in arms.items() if name in arm.sweep and _same_value(value, str(arm.sweep[name]))}
    if not arms:
        values = " ".join(f"{name}={value}" for name, value in wanted.sweep.items())
        raise TicketError(f"the run has no arm with {values}", "give values that one arm has together")
    return arms


def _same_value(text: str, other: str) -> bool:
    """Whether two values of a sweep are the same, as text or as numbers."""
    return text == other or (_number(text) is not None and _number(text) == _number(other))


def _number(text: str) -> float | None:
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        return None


def _best(
    standings: Sequence[Standing], wanted: Wanted, contestant: str, *, several_arms: bool
) -> tuple[Standing, str]:
    """The smallest winning network, else the best one, with the reason."""
    metric = standings[0].metric
    alike = [standing for standing in standings if standing.metric == metric]
    if contestant == DENSE:
        best = max(alike, key=_goodness)
        why = f"the {superlative(metric)} dense network of these arms" if several_arms else "the dense network"
        return best, why
    if len(standings) == 1:
        given = wanted.level is not None
        return standings[0], "the level that was asked for" if given else "the only level that was measured"
    winning = [standing for standing in standings if standing.verdict == WINNING]
    kind = TICKET if contestant == TICKET else "network"
    if winning:
        smallest = min(winning, key=lambda standing: (_size(standing), -_goodness(standing)))
        return smallest, f"the smallest winning {kind} ({percent(smallest.density)} of the weights)"
    best = min(alike, key=lambda standing: (-_goodness(standing), _size(standing)))
    name = "" if metric == ACCURACY else f"{label(metric)} "
    shown = number(metric, best.score.mean if best.score is not None else None)
    return best, f"no {kind} is shown to win, and this one is the {superlative(metric)} ({name}{shown})"


def _goodness(standing: Standing) -> float:
    return standing.goodness


def _size(standing: Standing) -> tuple[float, float]:
    """The parameters, then the multiply-adds; what is unknown counts as large."""
    unknown = float("inf")
    return (
        unknown if standing.params is None else standing.params,
        unknown if standing.macs is None else standing.macs,
    )


def _seed(metrics: Mapping[int, Metric], wanted: int | None, chosen: Standing, contestant: str) -> tuple[int, str]:
    """The seed, with the reason: the one that was asked for, else the median by score, the worse one of two."""
    by_score = sorted(
        metrics, key=lambda seed: (oriented(score_of(metrics[seed], chosen.metric) or 0.0, chosen.metric), seed)
    )
    if wanted is not None:
        if wanted not in metrics:
            place = "the dense network" if contestant == DENSE else f"level {chosen.level}"
            raise TicketError(
                f"{place} of arm {chosen.arm} was not trained with seed {wanted}",
                f"it has {_listed(map(str, sorted(metrics)), 'seed')}",
            )
        return wanted, "the seed that was asked for"
    if len(by_score) == 1:
        return by_score[0], "its only seed"
    return by_score[(len(by_score) - 1) // 2], f"the seed with the median {label(chosen.metric)} of {len(by_score)}"


def _nothing_measured(state: RunState, contestant: str, arms: Sequence[ArmInfo]) -> TicketError:
    if not any(standing.score is not None for standing in compute_standings(state).values()):
        return TicketError(
            "the run has no levels: no network was measured",
            "continue it with `tickdsl run`, or name another run; `tickdsl ls` lists them",
        )
    names = _listed(arm.id for arm in arms)
    if contestant == TICKET:
        return TicketError(
            f"the run has no levels of {names}: no ticket was measured",
            "continue it with `tickdsl run`, or take the dense network with --dense",
        )
    return TicketError(f"`{contestant}` was not measured for {names}", "`tickdsl report` shows what the run has")


def _no_such_level(level: int, standings: Iterable[Standing], arms: Sequence[ArmInfo], contestant: str) -> TicketError:
    measured = sorted({standing.level for standing in standings})
    planned = max((arm.levels for arm in arms), default=0)
    names = _listed(arm.id for arm in arms)
    has = f"measured {_listed(map(str, measured), 'level')}"
    if 0 < level <= planned:
        return TicketError(f"level {level} of {names} was not trained in this run", f"it has the {has}")
    return TicketError(f"{names} has no level {level}: the plan has {plural(planned, 'round')}", f"it has the {has}")


def _listed(names: Iterable[str], noun: str = "") -> str:
    """A list for a message: at most a few names."""
    known = list(names)
    shown = known if len(known) <= 8 else [*known[:7], f"{len(known) - 7} more"]
    text = ", ".join(shown)
    return f"{noun}{'s' if len(known) != 1 else ''} {text}" if noun else text
