"""Several workers share a run: what they tell of it is one story."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tickdsl.records.event_decode import EventRecord
from tickdsl.records.event_log import EventWriter
from tickdsl.records.events import (
    ArmInfo,
    ControlAck,
    Event,
    Heartbeat,
    Log,
    Metric,
    Phase,
    PlanResolved,
    RunEnd,
    RunStart,
    StepEnd,
    StepInfo,
    StepProgress,
    StepStart,
)
from tickdsl.records.paths import RunPaths
from tickdsl.records.run_events import RunEventReader, Story, events_age, read_run_events
from tickdsl.results.state_builder import build_state

STEPS = tuple(f"step{number}" for number in range(5))


def start() -> RunStart:
    return RunStart(
        run="r",
        plan="p",
        path="p.plan",
        argv=(),
        pid=1,
        host="h",
        boot="b",
        versions={},
        jobs=1,
        device="cpu",
        store=".s",
    )


def plan() -> PlanResolved:
    arm = ArmInfo(id="a", name="ticket", sweep={}, levels=len(STEPS) - 1)
    steps = tuple(StepInfo(id=name, key=name, operation="train", label=name, arms=("a",), epochs=1.0) for name in STEPS)
    return PlanResolved(arms=(arm,), contestants=("ticket",), seeds=(1,), steps=steps, measurements=())


def metric(step: str) -> Metric:
    return Metric(arm="a", contestant="ticket", level=STEPS.index(step), seed=1, step=step, accuracy=0.5)


def end(status: str = "ok") -> RunEnd:
    return RunEnd(status=status, seconds=1.0, exit=0 if status == "ok" else 4)


def told(*events: tuple[str, Event]) -> list[Event]:
    story = Story()
    records = [(name, EventRecord(number, float(number), event)) for number, (name, event) in enumerate(events)]
    return [event for _, event in story.tell(records)]


@given(st.lists(st.sampled_from("abc"), min_size=len(STEPS), max_size=len(STEPS)), st.randoms())
def test_the_story_is_that_of_one_engine(owners: list[str], random: object) -> None:
    """Whoever runs which step, and however late the others see it."""
    heard: list[tuple[str, Event]] = [pair for name in "abc" for pair in ((name, start()), (name, plan()))]
    late: dict[str, list[Event]] = {name: [] for name in "abc"}
    for step, owner in zip(STEPS, owners, strict=True):
        heard.append((owner, StepStart(step=step, worker="this process")))
        heard.append((owner, StepProgress(step=step, epoch=1, epochs=1)))
        heard.append((owner, StepEnd(step=step, status="done", seconds=2.0, metrics={"accuracy": 0.5})))
        heard.append((owner, metric(step)))
        for other in set("abc") - {owner}:
            late[other] += [StepEnd(step=step, status="stored"), metric(step)]
            if random.random() < 0.5:  # type: ignore[attr-defined]
                heard += [(other, event) for event in late[other]]
                late[other].clear()
    for name in "abc":
        heard += [(name, event) for event in late[name]] + [(name, end())]
    events = told(*heard)
    state = build_state(EventRecord(number, float(number), event) for number, event in enumerate(events))
    assert state.status == "ok" and state.attempts == 1
    assert {name: step.status for name, step in state.steps.items()} == dict.fromkeys(STEPS, "done")
    assert {name: step.worker for name, step in state.steps.items()} == dict(zip(STEPS, owners, strict=True))
    assert sorted(key[2] for key in state.metrics) == list(range(len(STEPS)))
    assert sum(isinstance(event, Metric) for event in events) == len(STEPS)
    assert sum(isinstance(event, PlanResolved) for event in events) == 1


def test_the_run_ends_with_the_last_worker_or_with_the_first_that_finds_nothing_left() -> None:
    assert told(("a", start()), ("b", start()), ("a", end("stopped")))[-1] == Log(
        message="worker a has ended (stopped)"
    )
    assert told(("a", start()), ("b", start()), ("a", end("stopped")), ("b", end("stopped")))[-1] == end("stopped")
    events = told(("a", start()), ("b", start()), ("a", end()), ("b", end()))
    assert [event for event in events if isinstance(event, RunEnd)] == [end()]


def test_a_worker_that_comes_after_the_end_resumes_the_run() -> None:
    events = told(("a", start()), ("a", plan()), ("a", end("stopped")), ("b", start()), ("b", plan()))
    assert [event.type for event in events] == ["run.start", "plan.resolved", "run.end", "run.start", "plan.resolved"]


def test_the_run_is_paused_when_all_workers_are() -> None:
    def ack(state: str) -> ControlAck:
        return ControlAck(id="1", command="pause", state=state)

    both = (("a", start()), ("b", start()), ("a", ack("pausing")), ("b", ack("pausing")), ("a", ack("paused")))
    assert [event.state for event in told(*both) if isinstance(event, ControlAck)] == ["pausing"]
    all_paused = told(*both, ("b", ack("paused")))
    assert [event.state for event in all_paused if isinstance(event, ControlAck)] == ["pausing", "paused"]


def test_a_step_that_another_worker_takes_over_runs_again() -> None:
    events = told(("a", start()), ("a", StepStart(step="s")), ("b", start()), ("b", StepStart(step="s")))
    assert [event.worker for event in events if isinstance(event, StepStart)] == ["a", "b"]


def test_no_process_stands_for_all_workers() -> None:
    (beat,) = [event for event in told(("a", Heartbeat(pid=7, host="h", boot="b"))) if isinstance(event, Heartbeat)]
    assert (beat.pid, beat.boot) == (0, "")


def test_files_are_read_as_they_grow_and_workers_as_they_come(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    assert list(read_run_events(paths)) == [] and events_age(paths) == float("inf")
    reader = RunEventReader(paths)
    with EventWriter(paths.events) as writer:
        writer.write(Phase(doing="waiting for workers"))
        assert [record.event.type for record in reader.poll()] == ["phase"]
        for name in ("a", "b"):
            paths.worker(name).folder.mkdir(parents=True)
            with EventWriter(paths.worker(name).events) as worker:
                worker.write(start())
                worker.write(plan())
        records = reader.poll()
    assert [record.event.type for record in records] == ["run.start", "plan.resolved", "log"] or [
        record.event.type for record in records
    ] == ["run.start", "log", "plan.resolved"]
    assert [record.seq for record in records] == [1, 2, 3]
    assert reader.poll() == []
    assert len(list(read_run_events(paths))) == 4
    assert events_age(paths) < 60
