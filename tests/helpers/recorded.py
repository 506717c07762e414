"""A real run of `colt.plan`, recorded, and monitors on it."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
from textual.pilot import Pilot
from tickdsl.tui import Monitor
from tickdsl.tui.views.glance import Glance, by_contestant
from tickdsl.tui.views.outline import outline

from tickdsl.records import Record, read_events
from tickdsl.records.events import Log, RunEnd, StepEnd
from tickdsl.results import Fold
from tickdsl.results.verdict import standings

HERE = Path(__file__).parents[1] / "tui"
PLAN = (HERE / "colt.plan").read_text()


@functools.cache
def story() -> tuple[Record, ...]:
    """The events of the run, from its start to its end."""
    return tuple(read_events(HERE / "events.jsonl"))


def until_the_middle() -> list[Record]:
    """The events up to where both arms are under way."""
    return list(story()[:300])


def with_failure() -> list[Record]:
    """A run in whose middle a training fails, which ends the run."""
    records = until_the_middle()
    last = records[-1]
    running = {name for name, step in glance(records).state.steps.items() if step.status == "running"}
    step = sorted(running)[0]
    trace = (
        'Traceback (most recent call last):\n  File "loop.py", line 7, in train\n    step()\nRuntimeError: no memory'
    )
    told = [
        Log(message=trace),
        StepEnd(step=step, status="failed", seconds=1.0, error="RuntimeError: no memory"),
        RunEnd(status="failed", seconds=9.0, exit=3, message="1 step failed"),
    ]
    return records + [Record(last.seq + n + 1, last.t + 0.1 * n, event) for n, event in enumerate(told)]


def glance(records: Iterable[Record], words: str = "") -> Glance:
    """What a screen is told after these events."""
    fold, seen = Fold(), list(records)
    for record in seen:
        fold.add(record)
    state = fold.state
    places = {arm.id: place for place, arm in enumerate(state.arms)}
    found = standings(state)
    rounds = by_contestant(found)
    return Glance(state, state.status, state.now + 0.7, found, rounds, outline(state), places, seen, (), words)


@attrs.define
class Told:
    """A source of events that are there at once; more can be put behind them."""

    records: list[Record]
    polls: int = 0

    def poll(self, limit: int | None = None) -> list[Record]:
        self.polls += 1
        told, self.records = self.records, []
        return told


async def settled(app: Monitor, pilot: Pilot[None]) -> None:
    """Wait until the monitor has drawn all that it was told."""
    for _ in range(200):
        await pilot.pause(0.02)
        if app.view.glance is not None and not app.feed.behind:
            break
    app.draw_now()
    await pilot.pause()


def monitor(records: Iterable[Record] | None = None, **options: Any) -> Monitor:
    """A monitor on a recording, at a standing clock; the run counts as alive."""
    told = until_the_middle() if records is None else list(records)
    now = told[-1].t + 0.7 if told else 0.0
    settings: dict[str, Any] = {"plan_text": PLAN, "clock": lambda: now, "lives": False}
    return Monitor(Told(told), **(settings | options))
