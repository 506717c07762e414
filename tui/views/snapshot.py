"""The state of a run at one moment, with everything the screens derive from it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import attrs

from tickdsl.records import EventRecord
from tickdsl.records.events import MetricInfo, Resource
from tickdsl.results import RunState
from tickdsl.results.extra_metrics import MeasuredValue, NetworkKey, measured_values
from tickdsl.results.scores import ACCURACY, label
from tickdsl.results.standings import Standing
from tickdsl.results.state import ENDED_STATUSES

from .arm_names import short_arm_names
from .step_outline import StepOutline

FINAL_STATUSES = ENDED_STATUSES | {"crashed", "presumed crashed"}


def group_by_contestant(
    standings_by_key: Mapping[tuple[str, str, int], Standing],
) -> dict[tuple[str, str], tuple[Standing, ...]]:
    """Group standings by (arm, contestant), in the order of the rounds."""
    by_contestant: dict[tuple[str, str], list[Standing]] = {}
    for (arm, contestant, _), standing in sorted(standings_by_key.items(), key=lambda item: item[0][2]):
        by_contestant.setdefault((arm, contestant), []).append(standing)
    return {key: tuple(standings) for key, standings in by_contestant.items()}


@attrs.frozen
class Snapshot:
    """A state and the values derived from it once for all screens.

    `status` comes from `effective_status`; `now` is in seconds since 1970. `arm_indices` maps an arm to its index in
    the plan; `standings_by_round` maps (arm, contestant) to its standings by round. `alarms` say what makes the results
    worthless.
    """

    state: RunState
    status: str
    now: float
    standings: Mapping[tuple[str, str, int], Standing]
    standings_by_round: Mapping[tuple[str, str], tuple[Standing, ...]]
    outline: StepOutline
    arm_indices: Mapping[str, int]
    log_records: Sequence[EventRecord] = ()
    resource_history: Sequence[Resource] = ()
    filter_text: str = ""
    alarms: Sequence[str] = ()

    @functools.cached_property
    def arm_names(self) -> Mapping[str, str]:
        """Short names of the arms, by their ids."""
        return short_arm_names(self.state.arms)

    @functools.cached_property
    def metrics(self) -> tuple[MetricInfo, ...]:
        """What the networks of the arms that match the filter are compared by, each once; that of all arms if none."""
        arms = [arm for arm in self.state.arms if self.matches_filter(arm.id)] or self.state.arms
        return tuple(dict.fromkeys(self.state.metric_of(arm.id) for arm in arms)) or (ACCURACY,)

    @functools.cached_property
    def arms_of_one_metric(self) -> tuple[MetricInfo, list[str], str]:
        """The metric of the first arm that matches the filter, the matching arms with it, and a note on the others."""
        metric = self.metrics[0]
        matching = [arm.id for arm in self.state.arms if self.matches_filter(arm.id)]
        arms = [arm for arm in matching if self.state.metric_of(arm) == metric]
        others = list(dict.fromkeys(label(other) for other in self.metrics[1:]))
        return metric, arms, f" · filter for arms with {' or '.join(others)}" if others else ""

    def arm_name(self, arm: str) -> str:
        """The short name of an arm: what differs between the arms."""
        return self.arm_names.get(arm, arm)

    @property
    def is_live(self) -> bool:
        """Whether the run may still go on: it has neither ended nor crashed."""
        return self.status not in FINAL_STATUSES

    @functools.cached_property
    def extra_values(self) -> Mapping[NetworkKey, Mapping[str, MeasuredValue]]:
        """The values of the `report` metrics, apart from the task's."""
        return measured_values(self.state)

    @property
    def clock_end(self) -> float:
        """The end of elapsed times: now, or the time when the run ended or crashed."""
        if self.state.ended is not None:
            return self.state.ended
        return self.state.now if self.status.endswith("crashed") else max(self.now, self.state.now)

    def matches_filter(self, text: str) -> bool:
        """Whether `text` contains every word of the filter, ignoring case."""
        folded = text.casefold()
        return all(word in folded for word in self.filter_text.casefold().split())
