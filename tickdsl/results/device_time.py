"""What a study costs in device hours: the time that steps take, by the share of a device that each of them has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import attrs

from tickdsl.results.state import RunState
from tickdsl.results.state_cache import kept_per_state
from tickdsl.results.worker_uses import WorkerUse, idle_share

_HOUR = 3600.0


@attrs.frozen
class DeviceTime:
    """Device hours: `used` in this run, `stored` those of trainings that were there before, `left` what is to come.

    left: None if it is not known. used_by_arm, stored_by_arm: a step that several arms share counts for each of them
    with an equal part; time of attempts that did not end is in `used` only. idle: the share of the workers' time in
    which they ran nothing; None before the first step.
    """

    used: float
    stored: float
    left: float | None
    idle: float | None
    used_by_arm: Mapping[str, float]
    stored_by_arm: Mapping[str, float]


@kept_per_state
def device_time(state: RunState) -> DeviceTime:
    """The device hours of a run so far."""
    share = state.run.device_share if state.run is not None else 1.0
    used: dict[str, float] = defaultdict(float)
    stored: dict[str, float] = defaultdict(float)
    stored_in_all = 0.0
    for step in state.steps.values():
        trained = step.metrics.get("train_time")
        if step.status == "stored" and isinstance(trained, (int, float)):
            hours, by_arm = trained * share / _HOUR, stored
            stored_in_all += hours
        else:
            hours, by_arm = step.seconds * share / _HOUR, used
        for arm in step.info.arms:
            by_arm[arm] += hours / len(step.info.arms)
    uses = workers_now(state).values()
    return DeviceTime(
        used=sum(use.busy for use in uses) * share / _HOUR,
        stored=stored_in_all,
        left=_left(state, share),
        idle=idle_share(uses),
        used_by_arm=dict(used),
        stored_by_arm=dict(stored),
    )


def workers_now(state: RunState) -> dict[str, WorkerUse]:
    """The workers of a run with all time until its last event."""
    return {name: use.counted(state.now) for name, use in state.uses.items()}


def _left(state: RunState, share: float) -> float | None:
    """The device hours that are left if the workers go on as they do."""
    if state.eta is None:
        return None
    uses = [use for use in workers_now(state).values() if use.attempt == state.attempts]
    idle = idle_share(uses)
    return state.eta * len(uses) * (1.0 - (idle or 0.0)) * share / _HOUR


def hours_in_words(hours: float) -> str:
    """Device hours: `0.004`, `0.35`, `12.4`, `1,204`."""
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.1f}" if hours >= 10 else f"{hours:.2g}"
