"""A real run of `colt.plan`, recorded, and monitors on it."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
from textual.pilot import Pilot
from tickdsl.tui import Monitor
from tickdsl.tui.views.snapshot import Snapshot, group_by_contestant
from tickdsl.tui.views.step_outline import build_outline

from tickdsl.records import EventRecord, read_events
from tickdsl.records.events import Log, RunEnd, StepEnd
from tickdsl.results import StateBuilder
from tickdsl.results.standings import compute_standings

HERE = Path(__file__).parents[1] / "tui"
PLAN = (HERE / "colt.plan").read_text()


@functools.cache
def recorded_events() -> tuple[EventRecord, ...]:
    """The events of the run, from its start to its end."""
    return tuple(read_events(HERE / "events.jsonl"))


def events_until_midway() -> list[EventRecord]:
    """The events up to where both arms are under way."""
    return list(recorded_events()[:300])


def events_with_failure() -> list[EventRecord]:
    """A run in whose middle a training fails, which ends the run."""
    records = events_until_midway()
    last = records[-1]
    running = {name for name, step in snapshot(records).state.steps.items() if step.status == "running"}
    step = sorted(running)[0]
    trace = (
        'Traceback (most recent call last):\n  File "loop.py", line 7, in train\n    step()\nRuntimeError: no memory'
    )
    told = [
        Log(message=trace),
        StepEnd(step=step, status="failed", seconds=1.0, error="RuntimeError: no memory"),
        RunEnd(status="failed", seconds=9.0, exit=3, message="1 step failed"),
    ]
    return records + [EventRecord(last.seq + n + 1, last.t + 0.1 * n, event) for n, event in enumerate(told)]


def snapshot(records: Iterable[EventRecord], words: str = "") -> Snapshot:
    """What a screen is told after these events."""
    builder, seen = StateBuilder(), list(records)
    for record in seen:
        builder.add(record)
    state = builder.state
    places = {arm.id: place for place, arm in enumerate(state.arms)}
    found = compute_standings(state)
    rounds = group_by_contestant(found)
    return Snapshot(state, state.status, state.now + 0.7, found, rounds, build_outline(state), places, seen, (), words)


@attrs.define
class StubSource:
    """A source of events that are there at once; more can be put behind them."""

    records: list[EventRecord]
    polls: int = 0

    def poll(self, limit: int | None = None) -> list[EventRecord]:
        self.polls += 1
        told, self.records = self.records, []
        return told


async def wait_until_drawn(app: Monitor, pilot: Pilot[None]) -> None:
    """Wait until the monitor has drawn all that it was told."""
    for _ in range(200):
        await pilot.pause(0.02)
        if app.view.snapshot is not None and not app.feed.behind:
            break
    app.draw_now()
    await pilot.pause()


def make_monitor(records: Iterable[EventRecord] | None = None, **options: Any) -> Monitor:
    """A monitor on a recording, at a standing clock; the run counts as alive."""
    told = events_until_midway() if records is None else list(records)
    now = told[-1].t + 0.7 if told else 0.0
    settings: dict[str, Any] = {"plan_text": PLAN, "clock": lambda: now, "has_engine": False}
    return Monitor(StubSource(told), **(settings | options))
