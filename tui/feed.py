"""Reads events from the source in short time slices, so that the screen stays responsive."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import attrs

from tickdsl.records import EventRecord
from tickdsl.records.events import (
    Checkpoint,
    ControlAck,
    Heartbeat,
    Layers,
    Metric,
    Network,
    PlanResolved,
    Resource,
    SearchProgress,
    StepProgress,
    Transfer,
)
from tickdsl.results import RunState, StateBuilder

from .event_source import EventSource
from .replay_source import ReplaySource

LOG_LINES = 5000  # latest notable events kept for the log
RESOURCE_POINTS = 120  # latest load samples kept
# Chunk sizes to try: an event larger than one chunk, such as a large plan, needs the next size.
_POLL_BYTES = (1 << 18, 1 << 21, 1 << 24)
_NOT_LOGGED = (StepProgress, SearchProgress, Heartbeat, Resource, Transfer, Layers, Network, PlanResolved, Checkpoint)


@attrs.define
class Feed:
    """The state of a run after the events read so far, and recent events that the state does not keep.

    `log_records` are the events for the log, `acks` maps request ids to the state that the engine acknowledged,
    `resource_history` holds load samples. `behind` is True while more events are available.
    """

    source: EventSource
    slice_seconds: float = 0.04  # maximum duration of a slice
    clock: Callable[[], float] = time.perf_counter
    state: RunState = attrs.field(init=False, factory=RunState)
    event_count: int = attrs.field(init=False, default=0)
    behind: bool = attrs.field(init=False, default=False)
    log_records: deque[EventRecord] = attrs.field(init=False, factory=lambda: deque(maxlen=LOG_LINES))
    resource_history: deque[Resource] = attrs.field(init=False, factory=lambda: deque(maxlen=RESOURCE_POINTS))
    metrics_version: int = attrs.field(init=False, default=0)  # incremented when measurements change
    plan_version: int = attrs.field(init=False, default=0)  # incremented when the steps change
    acks: dict[str, str] = attrs.field(init=False, factory=dict)
    _builder: StateBuilder = attrs.field(init=False, factory=StateBuilder)
    _rewound: int = attrs.field(init=False, default=0)

    def advance(self) -> bool:
        """Read events for one time slice; return whether the state changed."""
        started_at, before = self.clock(), self.event_count
        restarted = self._reset_if_rewound()
        while True:
            records = next((polled for size in _POLL_BYTES if (polled := self.source.poll(size))), [])
            for record in records:
                self._add(record)
            self.behind = bool(records)
            if not records or self.clock() - started_at > self.slice_seconds:
                break
        changed = restarted or self.event_count != before
        if changed:
            self.state = self._builder.state
        return changed

    def _add(self, record: EventRecord) -> None:
        self._builder.add(record)
        self.event_count += 1
        event = record.event
        if not isinstance(event, _NOT_LOGGED):
            self.log_records.append(record)
        match event:
            case Resource():
                self.resource_history.append(event)
            case Metric():
                self.metrics_version += 1
            case PlanResolved():
                self.plan_version += 1
                self.metrics_version += 1
            case ControlAck():
                self.acks[event.id] = event.state

    def _reset_if_rewound(self) -> bool:
        """Start over if a recording was rewound; return whether it was."""
        if not isinstance(self.source, ReplaySource) or self.source.rewound == self._rewound:
            return False
        self._rewound = self.source.rewound
        self._builder, self.event_count = StateBuilder(), 0
        self.log_records.clear()
        self.resource_history.clear()
        self.acks.clear()
        self.metrics_version += 1
        self.plan_version += 1
        return True
