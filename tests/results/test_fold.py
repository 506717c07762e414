"""Building a state from events: the same result for any split of the stream, also for a killed and resumed run."""

import itertools
import time
from collections.abc import Iterator

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickdsl.records import EventDecoder, EventRecord
from tickdsl.records.event_log import encode
from tickdsl.records.events import (
    ArmInfo,
    Checkpoint,
    ControlAck,
    Event,
    Heartbeat,
    LayerInfo,
    Layers,
    Log,
    MeasurementInfo,
    Metric,
    Network,
    PlanResolved,
    Resource,
    RunEnd,
    RunStart,
    StepEnd,
    StepInfo,
    StepProgress,
    StepStart,
    Transfer,
    Warn,
)
from tickdsl.records.transfers import Transfers
from tickdsl.results import RunState, StateBuilder, apply_event, build_state

START = RunStart(
    run="colt-1", plan="colt", path="colt.plan", argv=("run",), pid=7, host="h", boot="b", versions={},
    jobs=1, device="cpu", store="store",
)  # fmt: skip
PLAN = PlanResolved(
    arms=(ArmInfo(id="a", name="a", sweep={}, levels=1),),
    contestants=("ticket", "dense"),
    seeds=(1,),
    steps=tuple(
        StepInfo(id=name, key=name, operation="train", label=name, arms=("a",), seed=1, epochs=10)
        for name in ("s1", "s2")
    ),
    measurements=(MeasurementInfo(arm="a", contestant="dense", level=0, seed=1, step="s1"),),
    notes=("the model is small-cnn",),
)
NETWORK = Network(
    arms=("a",), model="lenet", params=20, macs=30, layers=(LayerInfo(path="fc", kind="linear", outputs=4, weights=16),)
)
LEFT = Layers(arm="a", contestant="ticket", level=1, seed=1, outputs={"fc": 3}, weights={"fc": 12})
METRIC = Metric(arm="a", contestant="dense", level=0, seed=1, step="s1", accuracy=0.9)


def records(*events: Event, since: float = 0.0) -> list[EventRecord]:
    """Records of the events, one every ten seconds."""
    return [EventRecord(number, since + 10.0 * number, event) for number, event in enumerate(events)]


def progress(step: str, epoch: float) -> StepProgress:
    return StepProgress(step=step, epoch=epoch, epochs=10, loss=0.5, accuracy=0.8)


STORY = records(
    START, PLAN, NETWORK, StepStart(step="s1"), progress("s1", 5), Checkpoint(step="s1", epoch=5), Log(message="hello"),
    progress("s1", 10), StepEnd(step="s1", status="done", seconds=40, metrics={"accuracy": 0.9}), METRIC, LEFT,
    Warn(message="careful"), Resource(cpu=50.0), Heartbeat(pid=7, host="h", boot="b"),
    Transfer(host="h", requests=3, received=100, sent=20), Transfer(host="h", requests=1, received=1, sent=0),
    ControlAck(id="1", command="pause", state="paused"), ControlAck(id="2", command="resume", state="running"),
    StepStart(step="s2"), progress("s2", 1), progress("s2", 2),
    StepEnd(step="s2", status="failed", error="out of memory"), RunEnd(status="failed", seconds=1, exit=3),
)  # fmt: skip


def test_a_whole_story() -> None:
    state = build_state(STORY)
    assert (state.status, state.exit, state.attempts, state.elapsed) == ("failed", 3, 1, 220.0)
    first, second = state.steps.values()
    assert (first.status, first.seconds, first.score, first.checkpoint) == ("done", 40, 0.9, 5)
    assert (second.status, second.error, second.epoch) == ("failed", "out of memory", 2)
    assert state.metrics == {("a", "dense", 0, 1): METRIC}
    assert state.networks == {"a": NETWORK}
    assert state.layers == {("a", "ticket", 1, 1): LEFT}
    assert [point.epoch for point in first.history] == [5, 10]
    assert state.log == ((60.0, "hello"),)
    assert state.warnings == (Warn(message="careful"),)
    assert state.transfers == {"h": Transfers(4, 101, 20)}
    assert state.notes == PLAN.notes
    assert state.finished_steps == 1


@settings(deadline=None)
@given(st.lists(st.integers(0, 4000), max_size=6), st.booleans())
def test_any_cut_of_the_stream_gives_the_same_state(cuts: list[int], one_by_one: bool) -> None:
    stream = b"".join(encode(record) for record in STORY)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    decoder, builder, state = EventDecoder(), StateBuilder(), RunState()
    for start, end in itertools.pairwise(edges):
        for record in decoder.feed(stream[start:end]):
            builder.add(record)
            state = apply_event(state, record)
        if one_by_one:
            assert builder.state == state
    assert builder.state == state == build_state(STORY)


def test_a_state_never_changes_after_it_was_given() -> None:
    builder = StateBuilder()
    states = []
    for record in STORY:
        builder.add(record)
        states.append((builder.state, repr(builder.state)))
    assert all(repr(state) == then for state, then in states)


def test_the_rest_is_estimated_from_the_epochs_done() -> None:
    assert build_state(STORY[:3]).eta is None
    state = build_state(records(START, PLAN, StepStart(step="s1"), progress("s1", 1), progress("s1", 2)))
    assert state.eta == pytest.approx(18 * 20 / 2)
    assert build_state(STORY).eta is None


def test_a_step_computed_along_with_another_does_not_count_for_the_pace() -> None:
    along_with_another = StepEnd(step="s2", status="done", seconds=0.0)
    state = build_state(
        records(START, PLAN, StepStart(step="s1"), progress("s1", 1), progress("s1", 2), along_with_another)
    )
    assert state.eta == pytest.approx(8 * 30 / 2)


def test_a_pause_does_not_change_the_pace() -> None:
    pause, resume = (ControlAck(id="1", command="c", state=s) for s in ("paused", "running"))
    straight = build_state(records(START, PLAN, StepStart(step="s1"), progress("s1", 1), progress("s1", 2)))
    paused = build_state(
        [
            *records(START, PLAN, StepStart(step="s1"), progress("s1", 1), pause),
            *records(resume, progress("s1", 2), since=3600.0),
        ]
    )
    assert paused.eta == pytest.approx(18 * 30 / 2)
    assert straight.eta == pytest.approx(18 * 20 / 2)


def test_a_killed_run_that_is_taken_up_again() -> None:
    stored = attrs.evolve(PLAN, steps=(attrs.evolve(PLAN.steps[0], stored=True), PLAN.steps[1]))
    killed = STORY[:18]
    state = build_state([*killed, *records(START, stored, StepStart(step="s2"), progress("s2", 6), since=1000.0)])
    assert state.status == "running"
    assert state.attempts == 2
    assert state.started == 0.0
    assert [step.status for step in state.steps.values()] == ["stored", "running"]
    assert state.metrics == {("a", "dense", 0, 1): METRIC}
    # The epochs before the checkpoint do not count for this attempt: one epoch in ten seconds, four remain.
    assert state.eta == pytest.approx(40.0)


def test_a_steps_story_may_begin_without_a_plan() -> None:
    state = build_state(records(progress("x", 3), StepEnd(step="x", status="done", seconds=1)))
    assert state.steps["x"].status == "done"
    assert state.steps["x"].info.label == "x"


def test_the_log_keeps_its_end() -> None:
    state = build_state(records(*(Log(message=str(number)) for number in range(2500))))
    assert [message for _, message in state.log] == [str(number) for number in range(2000, 2500)]


def test_a_long_course_is_thinned_and_begins_anew_where_a_checkpoint_was_taken_up() -> None:
    epochs = [float(number) for number in range(1, 1025)]
    state = build_state(records(START, PLAN, *(progress("s1", epoch) for epoch in epochs)))
    epochs_kept = [point.epoch for point in state.steps["s1"].history]
    assert len(epochs_kept) <= 512 and epochs_kept[-1] == 1024 and epochs_kept == sorted(epochs_kept)
    again = build_state(records(*(progress("s1", epoch) for epoch in [1, 2, 3, 4, 3, 4, 5])))
    assert [point.epoch for point in again.steps["s1"].history] == [1, 2, 3, 4, 5]


@pytest.mark.slow
def test_half_a_million_events_take_seconds() -> None:
    def stream() -> Iterator[EventRecord]:
        yield from records(START, PLAN)
        for number in range(500_000):
            yield EventRecord(number, float(number), progress("s1", number % 10))

    before = time.perf_counter()
    build_state(stream())
    assert time.perf_counter() - before < 30
