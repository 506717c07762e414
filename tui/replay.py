"""A finished run told again: its events at the pace of a virtual clock."""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Iterable

from tickdsl.records import Record
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
        records: Iterable[Record],
        speed: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        gap: float = 60.0,
    ) -> None:
        self.records = list(records)
        self.rewound = 0
        self.playing = True
        self._clock = clock
        self._speed = speed
        self._told = 0  # records that poll has handed out
        self._times = _shortened(self.records, gap)
        self._base, self._since = 0.0, clock()

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
        return min(self.length, self._base + passed)

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

    def poll(self, limit: int | None = None) -> list[Record]:
        """The events whose time came since the last call, at most `limit` / 200 of them."""
        until = self.position
        if limit is not None:
            until = min(until, self._told + max(1, limit // 200))
        told, self._told = self._told, max(until, self._told)
        return self.records[told:until]

    def play(self, playing: bool) -> None:
        """Let the clock run, or hold it; at the end of the recording, playing begins anew."""
        elapsed = self.elapsed
        if playing and elapsed >= self.length:
            elapsed = 0.0
        self._go_to(elapsed)
        self.playing = playing

    def faster(self, by: int) -> None:
        """Take the next higher of SPEEDS for positive `by`, the next lower for negative."""
        elapsed = self.elapsed
        places = [n for n, speed in enumerate(SPEEDS) if (speed > self._speed if by > 0 else speed < self._speed)]
        if places:
            self._speed = SPEEDS[places[0] if by > 0 else places[-1]]
        self._go_to(elapsed)

    def step(self, by: int, whole: bool = False) -> None:
        """Hold, and go `by` events on (back where negative); `whole` counts ends of steps instead."""
        self.playing = False
        here = self.position
        stops = [n + 1 for n, r in enumerate(self.records) if not whole or isinstance(r.event, (StepEnd, RunEnd))]
        ahead = [stop for stop in stops if stop > here] if by > 0 else [stop for stop in stops if stop < here][::-1]
        if ahead:
            self._show(ahead[min(abs(by), len(ahead)) - 1])
        else:
            self._show(len(self.records) if by > 0 else 1)

    def to_start(self) -> None:
        self._go_to(0.0)

    def to_end(self) -> None:
        self._go_to(self.length)

    def _show(self, count: int) -> None:
        """Stand right after the first `count` events."""
        count = min(max(1, count), len(self.records))
        if not count:
            return
        # Events of one moment cannot be told apart by the clock: the last of them is the one that is shown.
        self._go_to(self._times[count - 1])

    def _go_to(self, elapsed: float) -> None:
        self._base, self._since = elapsed, self._clock()
        if bisect.bisect_right(self._times, elapsed) < self._told:
            self._told = 0
            self.rewound += 1


def _shortened(records: list[Record], gap: float) -> list[float]:
    """The time of each record on the virtual clock, which begins at 0 and strictly climbs.

    Records of one moment are a millisecond apart, so that each can be stepped to.
    """
    times: list[float] = []
    for n, record in enumerate(records):
        passed = min(gap, max(0.001, record.t - records[n - 1].t)) if n else 0.0
        times.append((times[-1] if times else 0.0) + passed)
    return times
