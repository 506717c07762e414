"""A finished run told again: its events at the pace of a virtual clock."""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Iterable

from tickdsl.records import EventRecord
from tickdsl.records.events import RunEnd, StepEnd

SPEEDS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)


class ReplaySource:
    """Hands out recorded events when their time has come.

    `speed` is how many recorded seconds pass in one of `clock`. `poll` gives each event once; after a step back
    `rewound` is counted up and `poll` begins again with the first event. Silences longer than `gap` recorded
    seconds (a run that was taken up the next day) are passed over in `gap` seconds.
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
        self._delivered = 0  # records that poll has handed out
        self._times = _compressed_times(self.records, max_gap)
        self._elapsed_base, self._since = 0.0, clock()

    @property
    def speed(self) -> float:
        return self._speed

    @property
    def length(self) -> float:
        """Recorded seconds from the first event to the last, long silences cut."""
        return self._times[-1] if self._times else 0.0

    @property
    def elapsed(self) -> float:
        """Where in the recording the virtual clock stands, in [0, length]."""
        passed = (self._clock() - self._since) * self._speed if self.playing else 0.0
        return min(self.length, self._elapsed_base + passed)

    @property
    def position(self) -> int:
        """The number of events whose time has come."""
        return bisect.bisect_right(self._times, self.elapsed)

    def now(self) -> float:
        """The recorded time, in seconds since 1970."""
        if not self.records:
            return 0.0
        place = max(0, self.position - 1)
        return self.records[place].t + self.elapsed - self._times[place]

    def poll(self, limit: int | None = None) -> list[EventRecord]:
        """The events whose time came since the last call, at most `limit` / 200 of them."""
        end = self.position
        if limit is not None:
            end = min(end, self._delivered + max(1, limit // 200))
        start, self._delivered = self._delivered, max(end, self._delivered)
        return self.records[start:end]

    def play(self, playing: bool) -> None:
        """Let the clock run, or hold it; at the end of the recording, playing begins anew."""
        elapsed = self.elapsed
        if playing and elapsed >= self.length:
            elapsed = 0.0
        self._seek(elapsed)
        self.playing = playing

    def change_speed(self, direction: int) -> None:
        """Take the next higher of SPEEDS for positive `by`, the next lower for negative."""
        elapsed = self.elapsed
        indices = [
            n for n, speed in enumerate(SPEEDS) if (speed > self._speed if direction > 0 else speed < self._speed)
        ]
        if indices:
            self._speed = SPEEDS[indices[0] if direction > 0 else indices[-1]]
        self._seek(elapsed)

    def step(self, count: int, by_step: bool = False) -> None:
        """Hold, and go `by` events on (back where negative); `whole` counts ends of steps instead."""
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
        self._seek(0.0)

    def to_end(self) -> None:
        self._seek(self.length)

    def _seek_to_event(self, count: int) -> None:
        """Stand right after the first `count` events."""
        count = min(max(1, count), len(self.records))
        if not count:
            return
        # Events of one moment cannot be told apart by the clock: the last of them is the one that is shown.
        self._seek(self._times[count - 1])

    def _seek(self, elapsed: float) -> None:
        self._elapsed_base, self._since = elapsed, self._clock()
        if bisect.bisect_right(self._times, elapsed) < self._delivered:
            self._delivered = 0
            self.rewound += 1


def _compressed_times(records: list[EventRecord], max_gap: float) -> list[float]:
    """The time of each record on the virtual clock, which begins at 0 and strictly climbs.

    Records of one moment are a millisecond apart, so that each can be stepped to.
    """
    times: list[float] = []
    for n, record in enumerate(records):
        passed = min(max_gap, max(0.001, record.t - records[n - 1].t)) if n else 0.0
        times.append((times[-1] if times else 0.0) + passed)
    return times
