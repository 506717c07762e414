"""Compares the arms of several runs with each other, where their seeds and test data are the same."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import attrs

from tickdsl.results.arm_differences import MAX_PAIRS, ArmDifference, compare_arms, is_question
from tickdsl.results.state import RunState


@attrs.frozen
class RunDifferences:
    """The arms of several runs, compared; the ids of arms start with the names of their runs, as in `colt: imp`.

    notes: why two runs, or some of their arms, are not compared.
    """

    differences: tuple[ArmDifference, ...] = ()
    notes: tuple[str, ...] = ()


def run_differences(states: Mapping[str, RunState]) -> RunDifferences:
    """The differences between arms of different runs; `states` are by the names of the runs."""
    differences: list[ArmDifference] = []
    notes: list[str] = []
    for pair in itertools.combinations(states, 2):
        first, second = (_named(name, states[name]) for name in pair)
        pairs = [arms for arms in itertools.product(first.arms, second.arms) if is_question(*arms)]
        tested = [(one, other) for one, other in pairs if second.data.get(other.id) == first.data.get(one.id, "")]
        alike = [(one, other) for one, other in tested if second.metric_of(other.id) == first.metric_of(one.id)]
        why = "they are compared by different metrics" if tested else "they are tested on different data"
        obstacle = _obstacle(first, second) or (None if alike else why)
        if obstacle is not None:
            notes.append(f"The arms of {' and '.join(pair)} are not compared with each other: {obstacle}.")
            continue
        if len(tested) < len(pairs):
            notes.append(f"Arms of {' and '.join(pair)} that are tested on different data are not compared.")
        if len(alike) < len(tested):
            notes.append(f"Arms of {' and '.join(pair)} that have different metrics are not compared.")
        limit = MAX_PAIRS - len(differences)
        differences += compare_arms(_joined(first, second), alike[: max(0, limit)])
    return RunDifferences(tuple(differences), tuple(notes))


def _obstacle(first: RunState, second: RunState) -> str | None:
    """Why no arm of one run can be compared with one of the other."""
    if set(first.seeds) != set(second.seeds):
        return f"their seeds are {_listed(first.seeds)} and {_listed(second.seeds)}"
    if not (first.data and second.data):
        return "an earlier version of tickdsl, which did not record the test data, made at least one of them"
    return None


def _named(name: str, state: RunState) -> RunState:
    """The state with the name of the run before each id of an arm or a step: other runs may have the same ids."""

    def own(text: str) -> str:
        return f"{name}: {text}"

    return attrs.evolve(
        state,
        arms=tuple(attrs.evolve(arm, id=own(arm.id), name=own(arm.name)) for arm in state.arms),
        steps={own(step): found for step, found in state.steps.items()},
        measurements=tuple(attrs.evolve(m, arm=own(m.arm), step=own(m.step)) for m in state.measurements),
        metrics={(own(key[0]), *key[1:]): metric for key, metric in state.metrics.items()},
        data={own(arm): fingerprint for arm, fingerprint in state.data.items()},
        tasks={own(arm): task for arm, task in state.tasks.items()},
        compared={own(arm): metric for arm, metric in state.compared.items()},
    )


def _joined(first: RunState, second: RunState) -> RunState:
    """Two runs with different ids and equal seeds as one; levels are matched by weights unless both plans agree."""
    return attrs.evolve(
        first,
        arms=first.arms + second.arms,
        steps={**first.steps, **second.steps},
        measurements=first.measurements + second.measurements,
        metrics={**first.metrics, **second.metrics},
        stops=first.stops + second.stops,
        data={**first.data, **second.data},
        tasks={**first.tasks, **second.tasks},
        compared={**first.compared, **second.compared},
        matched_by=first.matched_by if first.matched_by == second.matched_by else "weights",
    )


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
