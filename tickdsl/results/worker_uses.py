"""What each worker of a run did, and how long: folded from the events, like the rest of the state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs


@attrs.frozen
class WorkerUse:
    """A worker of a run: the steps that it has done, and seconds without pauses.

    busy: while it ran steps. present: from its first step until the end of the run. Both are counted up to the moment
    `counted_to`, in seconds since 1970; None while the run is paused or over. running: the steps that it runs. attempt:
    the start of the run that the worker belongs to.
    """

    steps: int = 0
    busy: float = 0.0
    present: float = 0.0
    running: frozenset[str] = frozenset()
    counted_to: float | None = None
    attempt: int = 1

    def counted(self, t: float) -> WorkerUse:
        """The same with all time until `t`."""
        if self.counted_to is None:
            return self
        passed = max(0.0, t - self.counted_to)
        busy = self.busy + (passed if self.running else 0.0)
        return attrs.evolve(self, busy=busy, present=self.present + passed, counted_to=max(t, self.counted_to))

    @property
    def idle_share(self) -> float:
        """The share of its time in which it ran nothing, in [0, 1]."""
        return 1.0 - self.busy / self.present if self.present > 0 else 0.0


class WorkerUses:
    """Counts what the workers of a run do, event by event."""

    def __init__(self, uses: Mapping[str, WorkerUse]) -> None:
        self.by_name = dict(uses)

    def start(self, step: str, worker: str, before: str, attempt: int, t: float) -> None:
        """A worker starts a step that ran on the worker `before`, if that has not said how it ended."""
        self._leave(step, before, 0, t)
        use = self.by_name.get(worker, WorkerUse()).counted(t)
        self.by_name[worker] = attrs.evolve(
            use,
            running=use.running | {step},
            counted_to=t if use.counted_to is None else use.counted_to,
            attempt=attempt,
        )

    def end(self, step: str, worker: str, done: bool, t: float) -> None:
        """A step has ended, if it ran on this worker."""
        self._leave(step, worker, int(done), t)

    def pause(self, t: float) -> None:
        """Nothing runs from now on."""
        self.by_name = {name: attrs.evolve(use.counted(t), counted_to=None) for name, use in self.by_name.items()}

    def resume(self, attempt: int, t: float) -> None:
        """The workers of this attempt go on."""
        for name, use in self.by_name.items():
            if use.attempt == attempt and use.counted_to is None:
                self.by_name[name] = attrs.evolve(use, counted_to=t)

    def stop(self, t: float | None) -> None:
        """The run has ended at `t`; None if nobody knows when, so that time since the last event is not counted."""
        for name, use in self.by_name.items():
            counted = use if t is None else use.counted(t)
            self.by_name[name] = attrs.evolve(counted, running=frozenset(), counted_to=None, attempt=0)

    def _leave(self, step: str, worker: str, done: int, t: float) -> None:
        use = self.by_name.get(worker)
        if use is not None and step in use.running:
            use = use.counted(t)
            self.by_name[worker] = attrs.evolve(use, running=use.running - {step}, steps=use.steps + done)


def idle_share(uses: Iterable[WorkerUse]) -> float | None:
    """The share of the time of workers in which they ran nothing; None before the first step."""
    known = list(uses)
    present = sum(use.present for use in known)
    return 1.0 - sum(use.busy for use in known) / present if present > 0 else None


def place_of(worker: str) -> str:
    """Where a worker runs, as its name says: a node of a cluster, a device, or "" for this machine.

    Names are `NODE, worker N` on a cluster, `process PID on DEVICE`, `process PID`, `this process`, or what a worker
    that shares the run calls itself.
    """
    node, separator, _ = worker.rpartition(", worker ")
    if separator:
        return node
    return worker.rpartition(" on ")[2] if " on " in worker else ""
