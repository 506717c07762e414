"""A recorded run of `colt.plan`, and monitors that show it."""

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
from tickdsl.records.events import Log, Metric, Network, PlanResolved, RunEnd, StepEnd
from tickdsl.results import StateBuilder
from tickdsl.results.standings import compute_standings

HERE = Path(__file__).parents[1] / "tui"
PLAN = (HERE / "colt.plan").read_text()


@functools.cache
def recorded_events() -> tuple[EventRecord, ...]:
    """All events of the run."""
    return tuple(read_events(HERE / "events.jsonl"))


def events_until_midway() -> list[EventRecord]:
    """The events up to a point where both arms are running."""
    return list(recorded_events()[:300])


def events_with_failure() -> list[EventRecord]:
    """A run that fails midway because a training fails."""
    records = events_until_midway()
    last = records[-1]
    running = {name for name, step in snapshot(records).state.steps.items() if step.status == "running"}
    step = sorted(running)[0]
    trace = (
        'Traceback (most recent call last):\n  File "loop.py", line 7, in train\n    step()\nRuntimeError: no memory'
    )
    ending = [
        Log(message=trace),
        StepEnd(step=step, status="failed", seconds=1.0, error="RuntimeError: no memory"),
        RunEnd(status="failed", seconds=9.0, exit=3, message="1 step failed"),
    ]
    return records + [EventRecord(last.seq + n + 1, last.t + 0.1 * n, event) for n, event in enumerate(ending)]


def events_early() -> list[EventRecord]:
    """The first steps: nothing is measured yet."""
    return list(recorded_events()[:9])


def events_of_five_seeds() -> list[EventRecord]:
    """The recorded run as if its plan had five seeds, of which two are measured."""
    return [
        attrs.evolve(record, event=attrs.evolve(record.event, seeds=(1, 2, 3, 4, 5)))
        if isinstance(record.event, PlanResolved)
        else record
        for record in recorded_events()
        if not isinstance(record.event, RunEnd)
    ]


def events_with_collapse() -> list[EventRecord]:
    """The recorded run with an arm that falls to chance in its last round."""
    return [
        attrs.evolve(record, event=attrs.evolve(record.event, accuracy=0.1))
        if isinstance(record.event, Metric) and (record.event.arm, record.event.contestant) == ("colt", "ticket")
        and record.event.level >= 2
        else record
        for record in recorded_events()
    ]  # fmt: skip


def events_of_a_sweep() -> list[EventRecord]:
    """The recorded run with its arms renamed to two of a sweep, with long names."""
    new = {
        "colt": ("lr-rewind-of-a-long-name[scope=local, amount=0.2]", "local"),
        "imp": ("lr-rewind-of-a-long-name[scope=global, amount=0.2]", "global"),
    }

    long_name = "lr-rewind-of-a-long-name"

    def renamed(event: Any) -> Any:
        if isinstance(event, PlanResolved):
            arms = [
                attrs.evolve(
                    arm,
                    id=new[arm.id][0],
                    name=long_name,
                    sweep={"scope": new[arm.id][1], "amount": 0.2},
                )
                for arm in event.arms
            ]
            steps = [attrs.evolve(step, arms=tuple(new[arm][0] for arm in step.arms)) for step in event.steps]
            measured = [attrs.evolve(m, arm=new[m.arm][0]) for m in event.measurements]
            return attrs.evolve(event, arms=tuple(arms), steps=tuple(steps), measurements=tuple(measured))
        if isinstance(event, Network):
            return attrs.evolve(event, arms=tuple(new[arm][0] for arm in event.arms))
        return attrs.evolve(event, arm=new[event.arm][0]) if hasattr(event, "arm") else event

    return [attrs.evolve(record, event=renamed(record.event)) for record in recorded_events()[:300]]


def snapshot(records: Iterable[EventRecord], filter_text: str = "") -> Snapshot:
    """The snapshot after these events."""
    builder, log_records = StateBuilder(), list(records)
    for record in log_records:
        builder.add(record)
    state = builder.state
    arm_indices = {arm.id: index for index, arm in enumerate(state.arms)}
    standings = compute_standings(state)
    return Snapshot(
        state,
        state.status,
        state.now + 0.7,
        standings,
        group_by_contestant(standings),
        build_outline(state),
        arm_indices,
        log_records,
        filter_text=filter_text,
    )


@attrs.define
class StubSource:
    """A source that returns all `records` at once; more can be added later."""

    records: list[EventRecord]
    polls: int = 0

    def poll(self, limit: int | None = None) -> list[EventRecord]:
        self.polls += 1
        records, self.records = self.records, []
        return records


async def wait_until_drawn(app: Monitor, pilot: Pilot[None]) -> None:
    """Wait until the monitor has drawn all events."""
    for _ in range(200):
        await pilot.pause(0.02)
        if app.view.snapshot is not None and not app.feed.behind:
            break
    app.draw_now()
    await pilot.pause()


def make_monitor(records: Iterable[EventRecord] | None = None, **options: Any) -> Monitor:
    """A monitor for a recording with a stopped clock; the run counts as alive."""
    shown = events_until_midway() if records is None else list(records)
    now = shown[-1].t + 0.7 if shown else 0.0
    settings: dict[str, Any] = {"plan_text": PLAN, "clock": lambda: now, "has_engine": False}
    return Monitor(StubSource(shown), **(settings | options))
