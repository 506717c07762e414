"""What workers did and what a study cost, from its events."""

from __future__ import annotations

from typing import Any

import pytest

from tickdsl.records.event_decode import EventRecord
from tickdsl.records.events import (
    ArmInfo,
    ControlAck,
    Event,
    Heartbeat,
    PlanResolved,
    RunEnd,
    RunStart,
    StepEnd,
    StepInfo,
    StepStart,
)
from tickdsl.results.device_time import device_time, hours_in_words, workers_now
from tickdsl.results.state import RunState
from tickdsl.results.state_builder import StateBuilder, build_state
from tickdsl.results.worker_uses import place_of


def start(**fields: Any) -> RunStart:
    known = {"run": "r", "plan": "p", "path": "", "argv": (), "pid": 1, "host": "h", "boot": "b", "versions": {}}
    return RunStart(**{**known, "jobs": 2, "device": "cuda", "store": "s", **fields})


ARMS = (ArmInfo(id="a", name="a", sweep={}, levels=1), ArmInfo(id="b", name="b", sweep={}, levels=1))
STEPS = (
    StepInfo(id="shared", key="k1", operation="train", label="", arms=("a", "b"), epochs=10.0),
    StepInfo(id="own", key="k2", operation="train", label="", arms=("a",), epochs=10.0),
    StepInfo(id="old", key="k3", operation="train", label="", arms=("b",), epochs=10.0, stored=True),
)
PLAN = PlanResolved(arms=ARMS, contestants=(), seeds=(), steps=STEPS, measurements=())


def state_of(*told: tuple[float, Event]) -> RunState:
    records = [EventRecord(number, t, event) for number, (t, event) in enumerate(told)]
    whole = build_state(records)
    halves = StateBuilder(build_state(records[: len(records) // 2]))
    for record in records[len(records) // 2 :]:
        halves.add(record)
    assert halves.state == whole  # wherever the events are cut
    return whole


def test_busy_and_idle_times_are_those_between_events() -> None:
    state = state_of(
        (0.0, start()),
        (0.0, PLAN),
        (10.0, StepStart(step="shared", worker="one")),
        (20.0, StepStart(step="own", worker="two")),
        (50.0, StepEnd(step="own", status="done", seconds=30.0)),
        (110.0, StepEnd(step="shared", status="done", seconds=100.0)),
        (110.0, RunEnd(status="ok", seconds=110.0, exit=0)),
        (900.0, Heartbeat(pid=1, host="h", boot="b")),  # what comes later is none of the workers' time
    )
    one, two = workers_now(state).values()
    assert (one.steps, one.busy, one.present, one.idle_share) == (1, 100.0, 100.0, 0.0)
    assert (two.steps, two.busy, two.present) == (1, 30.0, 90.0)
    assert two.idle_share == pytest.approx(2 / 3)
    assert device_time(state).idle == pytest.approx(1 - 130 / 190)


def test_hours_are_shares_of_devices_and_arms_share_steps() -> None:
    state = state_of(
        (0.0, start(device_share=0.5)),
        (0.0, PLAN),
        (0.0, StepEnd(step="old", status="stored", metrics={"train_time": 7200.0})),
        (0.0, StepStart(step="shared", worker="one")),
        (3600.0, StepEnd(step="shared", status="done", seconds=3600.0)),
        (3600.0, StepStart(step="own", worker="one")),
        (5400.0, StepEnd(step="own", status="done", seconds=1800.0)),
        (5400.0, RunEnd(status="ok", seconds=5400.0, exit=0)),
    )
    time = device_time(state)
    assert (time.used, time.stored, time.left) == (0.75, 1.0, None)
    assert time.used_by_arm == {"a": 0.5, "b": 0.25}
    assert time.stored_by_arm == {"b": 1.0}


def test_pauses_count_for_nobody() -> None:
    state = state_of(
        (0.0, start()),
        (0.0, PLAN),
        (0.0, StepStart(step="own", worker="one")),
        (10.0, ControlAck(id="1", command="pause", state="paused")),
        (500.0, ControlAck(id="2", command="resume", state="running")),
        (505.0, StepEnd(step="own", status="done", seconds=15.0)),
    )
    (one,) = workers_now(state).values()
    assert (one.busy, one.present) == (15.0, 15.0)


def test_the_time_between_two_starts_of_a_run_counts_for_nobody() -> None:
    state = state_of(
        (0.0, start()),
        (0.0, PLAN),
        (0.0, StepStart(step="own", worker="old one")),
        (10.0, StepStart(step="shared", worker="old two")),  # then the machine is switched off
        (5000.0, start()),
        (5000.0, PLAN),
        (5000.0, StepStart(step="own", worker="new one")),
        (5060.0, Heartbeat(pid=1, host="h", boot="b")),
    )
    assert {name: use.present for name, use in workers_now(state).items()} == {
        "old one": 0.0,
        "old two": 0.0,
        "new one": 60.0,
    }


def test_a_step_of_a_lost_worker_runs_on_one_worker_only() -> None:
    state = state_of(
        (0.0, start()),
        (0.0, PLAN),
        (0.0, StepStart(step="own", worker="lost")),
        (30.0, StepStart(step="own", worker="other")),
        (50.0, StepEnd(step="own", status="done", seconds=20.0)),
    )
    lost, other = workers_now(state).values()
    assert (lost.steps, lost.busy, other.steps, other.busy) == (0, 30.0, 1, 20.0)


def test_what_is_left_is_told_while_the_run_goes_on() -> None:
    state = state_of(
        (0.0, start()),
        (0.0, PLAN),
        (0.0, StepStart(step="own", worker="one")),
        (3600.0, StepEnd(step="own", status="done", seconds=3600.0)),
        (3600.0, StepStart(step="shared", worker="one")),
    )
    assert device_time(state).left == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("worker", "place"),
    [
        ("node-3, worker 2", "node-3"),
        ("node-3 (ab12cd), worker 1", "node-3 (ab12cd)"),
        ("process 71 on cuda:1", "cuda:1"),
        ("process 71", ""),
        ("this process", ""),
    ],
)
def test_places(worker: str, place: str) -> None:
    assert place_of(worker) == place


def test_hours_are_written_with_the_digits_that_matter() -> None:
    assert [hours_in_words(hours) for hours in (0.00412, 0.35, 12.44, 1204.2)] == ["0.0041", "0.35", "12.4", "1,204"]
