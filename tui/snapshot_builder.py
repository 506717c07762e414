"""Builds snapshots of a feed; costly parts are cached until events change them."""

from __future__ import annotations

from tickdsl.records import Process
from tickdsl.results.caveats import alarms
from tickdsl.results.liveness import GrowthWatch, effective_status
from tickdsl.results.standings import compute_standings
from tickdsl.results.state import ENDED_STATUSES

from .feed import Feed
from .views.snapshot import Snapshot, group_by_contestant
from .views.step_outline import StepOutline, build_outline


class SnapshotBuilder:
    """Builds snapshots of `feed`. `has_engine` is False for a recording, which has no engine that could crash."""

    def __init__(self, feed: Feed, engine: Process | None, has_engine: bool = True) -> None:
        self._feed = feed
        self._engine = engine
        self._has_engine = has_engine
        self._now = 0.0
        self._growth, self._events_seen = GrowthWatch(clock=lambda: self._now), 0
        self._plan_version, self._outline = -1, StepOutline({}, {}, {})
        self._metrics_version = -1
        self._standings = compute_standings(feed.state)
        self._alarms = alarms(feed.state)
        self._rounds = group_by_contestant(self._standings)

    def status(self, now: float) -> str:
        """The effective status of the run. While events are still being read, the engine is not checked."""
        state = self._feed.state
        self._now = now
        if self._events_seen != self._feed.event_count:
            self._events_seen = self._feed.event_count
            self._growth.grew()
        if not self._has_engine or self._feed.behind or state.status in ENDED_STATUSES:
            return state.status
        return effective_status(state, self._growth.silence, self._engine)

    def snapshot(self, now: float, filter_text: str) -> Snapshot:
        """A snapshot of the feed at `now` (seconds since 1970), with the filter `filter_text`."""
        feed, state = self._feed, self._feed.state
        if self._plan_version != feed.plan_version or (state.steps.keys() - self._outline.seeds.keys()):
            self._plan_version, self._outline = feed.plan_version, build_outline(state)
        if self._metrics_version != feed.metrics_version:
            self._metrics_version, self._standings = feed.metrics_version, compute_standings(state)
            self._rounds = group_by_contestant(self._standings)
            self._alarms = alarms(state)
        return Snapshot(
            state=state,
            status=self.status(now),
            now=now,
            standings=self._standings,
            standings_by_round=self._rounds,
            outline=self._outline,
            arm_indices={arm.id: index for index, arm in enumerate(state.arms)},
            log_records=tuple(feed.log_records),
            resource_history=tuple(feed.resource_history),
            filter_text=filter_text,
            alarms=self._alarms,
        )
