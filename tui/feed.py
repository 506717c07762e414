"""Events on their way from the source into the fold, in slices that leave the screen its time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import attrs

from tickdsl.records import Record
from tickdsl.records.events import (
    Checkpoint,
    ControlAck,
    Heartbeat,
    Layers,
    Metric,
    Network,
    PlanResolved,
    Resource,
    StepProgress,
)
from tickdsl.results import Fold, RunState

from .replay import ReplaySource
from .source import Source

LOG_LINES = 5000  # events of note that the log remembers
LOAD_POINTS = 120  # of the machine's load
# A slice reads little at a time; where that holds no whole event, as a large plan's, more.
_POLL_BYTES = (1 << 18, 1 << 21, 1 << 24)
_QUIET = (StepProgress, Heartbeat, Resource, Layers, Network, PlanResolved, Checkpoint)


@attrs.define
class Feed:
    """The state of a run as far as its events were read, and what the fold does not keep of them.

    `notes` are the events that the log shows, `acks` the engine's last word on each request, `load` the last
    figures of the machine. `behind` says that more events lie ready.
    """

    source: Source
    seconds: float = 0.04  # that one slice may take
    clock: Callable[[], float] = time.perf_counter
    state: RunState = attrs.field(init=False, factory=RunState)
    events: int = attrs.field(init=False, default=0)
    behind: bool = attrs.field(init=False, default=False)
    notes: deque[Record] = attrs.field(init=False, factory=lambda: deque(maxlen=LOG_LINES))
    load: deque[Resource] = attrs.field(init=False, factory=lambda: deque(maxlen=LOAD_POINTS))
    measured: int = attrs.field(init=False, default=0)  # counts up whenever figures came or went
    planned: int = attrs.field(init=False, default=0)  # counts up whenever the steps became others
    acks: dict[str, str] = attrs.field(init=False, factory=dict)
    _fold: Fold = attrs.field(init=False, factory=Fold)
    _rewound: int = attrs.field(init=False, default=0)

    def advance(self) -> bool:
        """Read for one slice of time; whether anything came."""
        began, before = self.clock(), self.events
        restarted = self._follow_rewind()
        while True:
            records = next((found for size in _POLL_BYTES if (found := self.source.poll(size))), [])
            for record in records:
                self._take(record)
            self.behind = bool(records)
            if not records or self.clock() - began > self.seconds:
                break
        changed = restarted or self.events != before
        if changed:
            self.state = self._fold.state
        return changed

    def _take(self, record: Record) -> None:
        self._fold.add(record)
        self.events += 1
        event = record.event
        if not isinstance(event, _QUIET):
            self.notes.append(record)
        match event:
            case Resource():
                self.load.append(event)
            case Metric():
                self.measured += 1
            case PlanResolved():
                self.planned += 1
                self.measured += 1
            case ControlAck():
                self.acks[event.id] = event.state

    def _follow_rewind(self) -> bool:
        """Begin anew where a recording was wound back."""
        if not isinstance(self.source, ReplaySource) or self.source.rewound == self._rewound:
            return False
        self._rewound = self.source.rewound
        self._fold, self.events = Fold(), 0
        self.notes.clear()
        self.load.clear()
        self.acks.clear()
        self.measured += 1
        self.planned += 1
        return True
