"""How much time is left: true at 80% of simulated runs, also of those in which arms end early."""

from __future__ import annotations

import io
import random
import re
from itertools import pairwise

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from tickdsl.records.event_decode import EventRecord
from tickdsl.records.events import (
    ArmInfo,
    Event,
    Heartbeat,
    MeasurementInfo,
    Phase,
    PlanResolved,
    RunEnd,
    RunStart,
    StepEnd,
    StepInfo,
    StepProgress,
    StepStart,
)
from tickdsl.results.plain_progress import PlainProgress
from tickdsl.results.progress import run_progress, time_left
from tickdsl.results.state_builder import build_state

START = RunStart(
    run="r", plan="p", path="p.plan", argv=(), pid=1, host="h", boot="b", versions={}, jobs=1, device="cpu", store="s"
)


@attrs.define
class Simulation:
    """A run of `arms` x `seeds` chains of trainings, each of `rounds` rounds at most, one after the other."""

    draw: random.Random
    arms: int
    seeds: int
    rounds: int
    epochs: int
    ends: dict[int, int]  # arm -> the last round of its seeds, within one
    t: float = 0.0
    records: list[EventRecord] = attrs.field(factory=list)

    def emit(self, event: Event) -> None:
        self.records.append(EventRecord(len(self.records), self.t, event))

    def run(self) -> list[EventRecord]:
        steps, measurements = [], []
        for arm in range(self.arms):
            for seed in range(self.seeds):
                for level in range(self.rounds + 1):
                    name = f"{arm}.{seed}.{level}"
                    parents = (f"{arm}.{seed}.{level - 1}",) if level else ()
                    steps.append(StepInfo(
                        id=name, key=name, operation="train", label="train", arms=(str(arm),), seed=seed,
                        epochs=self.epochs, parents=parents,
                    ))  # fmt: skip
                    who = "ticket" if level else "dense"
                    measurements.append(
                        MeasurementInfo(arm=str(arm), contestant=who, level=level, seed=seed, step=name)
                    )
        self.emit(START)
        self.emit(PlanResolved(
            arms=tuple(ArmInfo(id=str(n), name=str(n), sweep={}, levels=self.rounds) for n in range(self.arms)),
            contestants=("ticket", "dense"), seeds=tuple(range(self.seeds)), steps=tuple(steps),
            measurements=tuple(measurements), open_ended=bool(self.ends),
        ))  # fmt: skip
        for seed in range(self.seeds):
            for arm in range(self.arms):
                self.chain(arm, seed)
        self.emit(RunEnd(status="ok", seconds=self.t, exit=0))
        return self.records

    def chain(self, arm: int, seed: int) -> None:
        last = self.rounds
        if arm in self.ends:
            last = min(last, max(1, self.ends[arm] + self.draw.choice((-1, 0, 0, 1))))
        for level in range(self.rounds + 1):
            name = f"{arm}.{seed}.{level}"
            if level > last:
                self.emit(StepEnd(step=name, status="skipped"))
                continue
            began = self.t
            self.emit(StepStart(step=name))
            for epoch in range(1, self.epochs + 1):
                self.t += self.draw.uniform(0.9, 1.1)
                self.emit(StepProgress(step=name, epoch=epoch, epochs=self.epochs))
            self.emit(StepEnd(step=name, status="done", seconds=self.t - began))


simulations = st.builds(
    lambda seed, arms, seeds, rounds, epochs, ends: Simulation(
        random.Random(seed), arms, seeds, rounds, epochs, {n: min(end, rounds) for n, end in enumerate(ends[:arms])}
    ),
    st.integers(0, 10**6), st.integers(1, 3), st.integers(3, 5), st.integers(4, 12), st.integers(1, 6),
    st.lists(st.integers(2, 12), max_size=3),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(simulations)
def test_at_80_percent_of_a_run_its_length_is_known_within_25_percent(simulation: Simulation) -> None:
    records = simulation.run()
    total = records[-1].t
    state = build_state(record for record in records if record.t <= 0.8 * total)
    assert state.eta is not None
    assert abs(state.elapsed + state.eta - total) <= 0.25 * total
    assert abs(run_progress(state).share - 0.8) <= 0.45


def test_a_finished_run_has_all_of_its_steps_and_no_time_left() -> None:
    records = Simulation(random.Random(1), 2, 3, 8, 2, {0: 3}).run()
    state = build_state(records)
    progress = run_progress(state)
    assert progress.done == progress.total < len(state.steps)
    assert progress.share == 1.0
    assert time_left(state) == ""


def test_most_that_may_be_left_is_said_to_be_that_until_an_arm_has_ended() -> None:
    records = Simulation(random.Random(1), 1, 3, 8, 2, {0: 3}).run()
    first_skip = next(n for n, r in enumerate(records) if isinstance(r.event, StepEnd) and r.event.status == "skipped")
    assert time_left(build_state(records[: first_skip - 1])).startswith("at most ")
    later = build_state([*records[: first_skip + 30], EventRecord(10**6, records[first_skip + 30].t, Heartbeat(
        pid=1, host="h", boot="b"))])  # fmt: skip
    assert not time_left(later).startswith("at most ")


def test_before_the_first_step_the_state_says_what_happens() -> None:
    phase = EventRecord(0, 1.0, Phase(doing="loading torch"))
    state = build_state([phase])
    assert (state.phase, state.status, state.run) == ("loading torch", "waiting", None)
    records = Simulation(random.Random(1), 1, 3, 4, 2, {}).run()
    started = [phase, *records[:2], EventRecord(9, 2.0, Phase(doing="reading digits"))]
    assert build_state(started).phase == "reading digits"
    assert build_state([*started, records[2]]).phase == ""
    out = io.StringIO()
    progress = PlainProgress(out, live=False)
    for record in started:
        progress.show(record)
    assert out.getvalue().startswith("loading torch…\n[0:00] run r on cpu")
    assert out.getvalue().endswith("reading digits…\n")


def test_plain_output_has_a_line_with_progress_at_least_every_30_seconds() -> None:
    """Also while a single epoch takes minutes: heartbeats, every 5 seconds, make a line due."""
    records = Simulation(random.Random(1), 1, 3, 4, 2, {}).run()[:5]
    out = io.StringIO()
    progress = PlainProgress(out, live=False)
    for record in records:
        progress.show(record)
    start = records[-1].t
    for beat in range(60):
        progress.show(EventRecord(100 + beat, start + 5.0 * beat, Heartbeat(pid=1, host="h", boot="b")))
    lines = [line for line in out.getvalue().splitlines() if "/15 " in line]
    times = [60 * int(minutes) + int(seconds) for minutes, seconds in re.findall(r"\[(\d+):(\d+)\]", "\n".join(lines))]
    assert all(later - earlier <= 30 for earlier, later in pairwise([0, *times, int(start) + 295]))
    assert all(" left" in line for line in lines)
