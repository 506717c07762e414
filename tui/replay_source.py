"""Replays a recorded run: yields its events by a virtual clock."""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Iterable

from tickdsl.records import EventRecord
from tickdsl.records.events import RunEnd, StepEnd

SPEEDS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)


class ReplaySource:
    """An event source that yields recorded events when they are due.

    `speed` is the number of recorded seconds per second of `clock`. `poll` returns each event once; seeking backwards
    increments `rewound`, and `poll` starts again with the first event. Gaps longer than `max_gap` recorded seconds (a
    run resumed the next day) are shortened to `max_gap`.
    """

    def __init__(
        self,
        records: Iterable[EventRecord],
        speed: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        max_gap: float = 60.0,
    ) -> None:
        self.records = list(records)
        self.rewound = 0
        self.playing = True
        self._clock = clock
        self._speed = speed
        self._delivered = 0  # number of records that poll has returned
        self._times = _compressed_times(self.records, max_gap)
        self._elapsed_base, self._since = 0.0, clock()

    @property
    def speed(self) -> float:
        """Recorded seconds per second of the clock."""
        return self._speed

    @property
    def length(self) -> float:
        """Recorded seconds between the first and the last event, with long gaps shortened."""
        return self._times[-1] if self._times else 0.0

    @property
    def elapsed(self) -> float:
        """The position of the virtual clock in seconds, in [0, length]."""
        passed = (self._clock() - self._since) * self._speed if self.playing else 0.0
        return min(self.length, self._elapsed_base + passed)

    @property
    def position(self) -> int:
        """The number of events that are due."""
        return bisect.bisect_right(self._times, self.elapsed)

    def now(self) -> float:
        """The recorded time of day, in seconds since 1970."""
        if not self.records:
            return 0.0
        index = max(0, self.position - 1)
        return self.records[index].t + self.elapsed - self._times[index]

    def poll(self, limit: int | None = None) -> list[EventRecord]:
        """The events that became due since the last call, at most `limit` / 200 of them."""
        end = self.position
        if limit is not None:
            end = min(end, self._delivered + max(1, limit // 200))
        start, self._delivered = self._delivered, max(end, self._delivered)
        return self.records[start:end]

    def play(self, playing: bool) -> None:
        """Start or pause the clock; playing at the end of the recording starts over."""
        elapsed = self.elapsed
        if playing and elapsed >= self.length:
            elapsed = 0.0
        self._seek(elapsed)
        self.playing = playing

    def change_speed(self, direction: int) -> None:
        """Switch to the next higher of SPEEDS if `direction` is positive, else to the next lower."""
        elapsed = self.elapsed
        indices = [
            n for n, speed in enumerate(SPEEDS) if (speed > self._speed if direction > 0 else speed < self._speed)
        ]
        if indices:
            self._speed = SPEEDS[indices[0] if direction > 0 else indices[-1]]
        self._seek(elapsed)

    def step(self, count: int, by_step: bool = False) -> None:
        """Pause and move by `count` events, backwards if negative; with `by_step`, by ends of steps."""
        self.playing = False
        position = self.position
        stops = [n + 1 for n, r in enumerate(self.records) if not by_step or isinstance(r.event, (StepEnd, RunEnd))]
        candidates = (
            [stop for stop in stops if stop > position]
            if count > 0
            else [stop for stop in stops if stop < position][::-1]
        )
        if candidates:
            self._seek_to_event(candidates[min(abs(count), len(candidates)) - 1])
        else:
            self._seek_to_event(len(self.records) if count > 0 else 1)

    def to_start(self) -> None:
        """Move to the first event."""
        self._seek(0.0)

    def to_end(self) -> None:
        """Move to the end of the recording."""
        self._seek(self.length)

    def _seek_to_event(self, count: int) -> None:
        """Move to just after the first `count` events."""
        count = min(max(1, count), len(self.records))
        if not count:
            return
        self._seek(self._times[count - 1])

    def _seek(self, elapsed: float) -> None:
        self._elapsed_base, self._since = elapsed, self._clock()
        if bisect.bisect_right(self._times, elapsed) < self._delivered:
            self._delivered = 0
            self.rewound += 1


def _compressed_times(records: list[EventRecord], max_gap: float) -> list[float]:
    """The time of each record on the virtual clock: 0 for the first, then strictly increasing.

    Simultaneous records are a millisecond apart, so that each can be stepped to.
    """
    times: list[float] = []
    for n, record in enumerate(records):
        passed = min(max_gap, max(0.001, record.t - records[n - 1].t)) if n else 0.0
        times.append((times[-1] if times else 0.0) + passed)
    return times
