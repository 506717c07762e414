"""The events of a run as one story, also where several engines write to its folder, each to a file of its own.

    RUN/events.jsonl                  the engine, or whoever made the folder for workers
    RUN/workers/NAME/events.jsonl     a worker that shares the folder: an engine with a share of the steps

Each worker reports the whole study as it sees it, so most of what the second one says was said: it is left out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs

from tickdsl.records.event_decode import EventRecord
from tickdsl.records.event_log import EventReader, read_events
from tickdsl.records.events import (
    Checkpoint,
    ControlAck,
    Event,
    Heartbeat,
    Layers,
    Log,
    Measure,
    Metric,
    Network,
    Phase,
    PlanResolved,
    Resource,
    RunEnd,
    RunStart,
    StepEnd,
    StepProgress,
    StepStart,
    Warn,
)
from tickdsl.records.paths import RunPaths

#: The host in the heartbeats of a run with several workers: no process to look for.
SEVERAL_HOSTS = "several workers"
#: States of a step that another worker's view of it does not change.
_FINAL = ("done", "stored")


class RunEventReader:
    """Reads the events of a run while it goes on, like `EventReader`: of its engine, or of all its workers."""

    def __init__(self, paths: RunPaths) -> None:
        self._paths = paths
        self._engine = EventReader(paths.events)
        self._workers: dict[str, EventReader] = {}
        self._story = Story()
        self._count = 0

    @property
    def damaged(self) -> int:
        """The number of lines so far that are not events."""
        return self._engine.damaged + sum(reader.damaged for reader in self._workers.values())

    def poll(self, limit: int | None = None) -> list[EventRecord]:
        """The events written since the last call, in at most `limit` bytes of each file.

        Raises TickdslError if a file cannot be read.
        """
        for name in worker_names(self._paths):
            if name not in self._workers:
                self._workers[name] = EventReader(self._paths.worker(name).events)
        own = self._engine.poll(limit)
        if not self._workers:
            self._count += len(own)
            return own
        told = [("", record) for record in own]
        told += [(name, record) for name, reader in self._workers.items() for record in reader.poll(limit)]
        return self._numbered(self._story.tell(told))

    def _numbered(self, told: Iterable[tuple[float, Event]]) -> list[EventRecord]:
        records = [EventRecord(self._count + index, t, event) for index, (t, event) in enumerate(told)]
        self._count += len(records)
        return records


def read_run_events(paths: RunPaths) -> Iterator[EventRecord]:
    """The events of a run so far; none if it has written none. Raises TickdslError if they cannot be read."""
    if worker_names(paths):
        yield from RunEventReader(paths).poll()
    elif paths.events.exists():
        yield from read_events(paths.events)


def worker_names(paths: RunPaths) -> list[str]:
    """The workers that share the folder of a run."""
    try:
        return sorted(path.name for path in paths.workers.iterdir())
    except OSError:
        return []


def events_age(paths: RunPaths) -> float:
    """The seconds since a run last wrote an event, on this host's clock; infinite if it has written none."""
    files = [paths.events, *(paths.worker(name).events for name in worker_names(paths))]
    return min(map(file_age, files))


def file_age(path: Path) -> float:
    """The seconds since a file was last changed, on this host's clock; infinite if it does not exist."""
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return math.inf


@attrs.define
class Story:
    """What several workers tell of one run, without what was told already."""

    _at_work: set[str] = attrs.field(init=False, factory=set)
    _paused: set[str] = attrs.field(init=False, factory=set)
    _going_on: bool = attrs.field(init=False, default=False)  # between a start and an end that were told
    _needs_plan: bool = attrs.field(init=False, default=False)
    _steps: dict[str, str] = attrs.field(init=False, factory=dict)
    _said: set[Any] = attrs.field(init=False, factory=set)

    def tell(self, told: Iterable[tuple[str, EventRecord]]) -> list[tuple[float, Event]]:
        """The events to pass on, with their times, of new records with the names of their workers."""
        story = []
        for name, record in sorted(told, key=lambda each: each[1].t):
            event = self._passed_on(name, record.event)
            if event is not None:
                story.append((record.t, event))
        return story

    def _passed_on(self, name: str, event: Event) -> Event | None:
        match event:
            case RunStart():
                return self._run_start(name, event)
            case RunEnd():
                return self._run_end(name, event)
            case PlanResolved():
                needed, self._needs_plan = self._needs_plan, False
                return event if needed else None
            case StepStart():
                self._steps[event.step] = "running"
                return attrs.evolve(event, worker=name)
            case StepEnd():
                return self._step_end(event)
            case StepProgress() | Checkpoint() | Resource():
                return event
            case Heartbeat():
                return Heartbeat(pid=0, host=SEVERAL_HOSTS, boot="")
            case ControlAck():
                return self._control_ack(name, event)
            case Phase():
                return event if not self._steps else None
            case Network():
                return self._once(event, ("network", event.arms))
            case Metric() | Layers():
                return self._once(event, (event.type, event.arm, event.contestant, event.level, event.seed))
            case Measure():
                key = (event.type, event.arm, event.contestant, event.level, event.seed, event.metric)
                return self._once(event, key)
            case Log() | Warn():
                return self._once(event, (event.type, event.message))
        return event

    def _run_start(self, name: str, event: RunStart) -> Event:
        self._at_work.add(name)
        if self._going_on:
            return Log(message=f"worker {name} has joined, on {event.device}")
        self._going_on = self._needs_plan = True
        self._steps.clear()
        return event

    def _run_end(self, name: str, event: RunEnd) -> Event | None:
        self._at_work.discard(name)
        self._paused.discard(name)
        if not self._going_on:
            return None if event.status == "ok" else event  # it could not even start
        if event.status == "ok" or not self._at_work:
            self._going_on = False
            return event
        return Log(message=f"worker {name} has ended ({event.status}{f': {event.message}' if event.message else ''})")

    def _step_end(self, event: StepEnd) -> Event | None:
        before = self._steps.get(event.step)
        if before in _FINAL and event.status != "done":
            return None
        if before == "running" and event.status == "skipped":
            return None
        if before == event.status:
            return None
        self._steps[event.step] = event.status
        return event

    def _control_ack(self, name: str, event: ControlAck) -> Event | None:
        if event.state == "paused":
            self._paused.add(name)
            if self._paused < self._at_work:
                return None
        elif event.state == "running":
            self._paused.clear()
        return self._once(event, (event.id, event.state))

    def _once(self, event: Event, key: Any) -> Event | None:
        if key in self._said:
            return None
        self._said.add(key)
        return event
