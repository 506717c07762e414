"""`tickdsl run --stack`: trainings of equal shape run as one task but stay separate steps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tickdsl.engine.messages import Task
from tickdsl.engine.scheduler.interpreter import Interpreter
from tickdsl.engine.workers.in_process import InProcessWorker
from tickdsl.errors import TickdslError
from tickdsl.records.control import send_request
from tickdsl.records.events import ControlAck, StepEnd, StepProgress, StepStart, Warn
from tickdsl.training.training_run import TrainingRun

PLAN = "seeds 3\nprune weights 30%; rewind weights to 1ep\ncompare random-init\n"
LONG = PLAN.replace("seeds 3", "train 12ep lr=0.05 batch=16\nseeds 3")
HEAD = "model small-cnn width=0.5\ndata synthetic size=8 train=256 test=64\n"


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The operations of group group of tasks that the worker gets."""
    sizes: list[list[str]] = []
    submit = InProcessWorker.submit

    def spy(self: InProcessWorker, tasks: Sequence[Task]) -> str:
        sizes.append([task.step.operation for task in tasks])
        return submit(self, tasks)

    monkeypatch.setattr(InProcessWorker, "submit", spy)
    return sizes


def results(store: Path) -> dict[str, dict[str, Any]]:
    return {path.parent.name: json.loads(path.read_text()) for path in store.glob("results/*/*/result.json")}


def assert_equal_but_for_rounding(one: Path, other: Path) -> None:
    ours, theirs = results(one), results(other)
    assert ours.keys() == theirs.keys()
    for key, result in ours.items():
        expected = theirs[key]
        assert result["parts"] == expected["parts"]
        if result["operation"] != "train":
            continue
        for name, tensor in load_file(one / "results" / key[:2] / key / "weights.safetensors").items():
            there = load_file(other / "results" / key[:2] / key / "weights.safetensors")[name]
            torch.testing.assert_close(tensor, there, rtol=5e-3, atol=5e-3, msg=f"{key} {name}")
        for name in ("accuracy", "loss", "sparsity"):
            if name in expected["metrics"]:
                assert result["metrics"][name] == pytest.approx(expected["metrics"][name], abs=0.04), name


def stacked(store: Path) -> list[int]:
    """The stack size of every stored training."""
    found = [result["metrics"] for result in results(store).values() if result["operation"] == "train"]
    return [metrics.get("stacked", 1) for metrics in found if metrics]


def test_stacked_trainings_give_the_same_results_but_for_rounding(harness: Any, submitted: list[list[str]]) -> None:
    harness.write(PLAN)
    alone = harness.folder / "alone"
    assert harness.run("--store", alone).exit == 0
    trainings = [len(group) for group in submitted if group[0] == "train"]
    assert trainings == [1] * 9
    begun, ended = harness.started_steps, harness.steps_ended("done")
    submitted.clear()
    clock = time.monotonic()
    completed = harness.run("--stack", 3)
    assert completed.exit == 0, completed.err
    took = time.monotonic() - clock
    seconds = sum(result["seconds"] for result in results(harness.store).values())
    assert seconds < took, "the time is shared"
    assert [group for group in submitted if group[0] == "train"] == [["train"] * 3] * 3
    assert all(len(group) == 1 for group in submitted if group[0] != "train")
    assert sorted(harness.started_steps) == sorted(begun)
    assert sorted(harness.steps_ended("done")) == sorted(ended), "including the rewind points that they store"
    assert stacked(harness.store) == [3] * 9 and stacked(alone) == [1] * 9
    assert_equal_but_for_rounding(harness.store, alone)
    reports = [(event.step, event.epoch) for event in harness.events_of("step.progress")]
    assert len(reports) == len(set(reports)) == 9 + 9 - 3  # the tickets start one epoch later
    assert len(harness.events_of("metric")) == 9


@pytest.mark.slow
def test_on_a_cpu_nothing_is_stacked_unless_it_is_asked_for(harness: Any, submitted: list[list[str]]) -> None:
    harness.write(PLAN)
    bits = []
    for flags in ((), ("--stack", "auto"), ("--stack", 1)):
        store = harness.folder / "-".join(map(str, ("store", *flags)))
        assert harness.run("--store", store, *flags).exit == 0
        bits.append(harness.weight_bytes(store))
    assert all(len(group) == 1 for group in submitted)
    assert bits[0] == bits[1] == bits[2]


def test_structures_of_other_sizes_are_not_stacked(harness: Any, submitted: list[list[str]]) -> None:
    arms = [f"arm {name} {{ prune filters {share}% by random; rewind lr }}\n" for name, share in (("a", 30), ("b", 60))]
    harness.write("train 1ep lr=0.1 batch=32\nseeds 2\n" + "".join(arms) + "compare all\n", head=HEAD)
    assert harness.run("--stack", 8).exit == 0
    sizes = sorted(len(group) for group in submitted if group[0] == "train")
    assert sizes[-1] == 2, "the dense networks"
    assert set(harness.steps_ended("done", "train")) == {
        info.id for info in steps(harness) if info.operation == "train"
    }


def steps(harness: Any) -> list[Any]:
    return list(harness.events_of("plan.resolved")[0].steps)


@pytest.mark.parametrize("other", ["lr=0.2", "opt=adam lr=0.001", "batch=64", "augment=flip"])
def test_recipes_that_differ_are_not_stacked(harness: Any, submitted: list[list[str]], other: str) -> None:
    arms = f"arm a {{ prune weights 30%; rewind lr }}\narm b {{ train 1ep {other}; prune weights 30%; rewind lr }}\n"
    harness.write("train 1ep lr=0.1 batch=32\n" + arms + "compare all\n", head=HEAD)
    assert harness.run("--stack", 8).exit == 0
    assert all(len(group) == 1 for group in submitted)


def test_who_diverges_fails_alone(harness: Any, submitted: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    after_step = TrainingRun.after_step

    def diverges(self: TrainingRun, weight: int) -> None:
        after_step(self, weight)
        if self.job.seed == 2 and self.step == 5 and self.stop > 8:
            raise TickdslError("the training diverged", "lower lr")

    harness.write(PLAN)
    with monkeypatch.context() as patched:
        patched.setattr(TrainingRun, "after_step", diverges)
        assert harness.run("--stack", 3).exit == 3
    failed = [record.t for record in harness.events if getattr(record.event, "status", "") == "failed"]
    done = [
        record.t for record in harness.events if isinstance(record.event, StepEnd) and record.event.status == "done"
    ]
    assert failed and failed[0] < max(done)
    assert len(harness.steps_ended("failed")) == 1
    seeds = {result["parts"]["seed"] for result in results(harness.store).values() if result["operation"] == "train"}
    assert seeds == {1, 3}
    assert harness.run("--stack", 3).exit == 0, "a second run trains what is missing"


@pytest.mark.slow
def test_stopped_and_continued_together_they_end_with_the_same_bits(harness: Any) -> None:
    harness.write(LONG, head=HEAD)
    whole = harness.folder / "whole"
    assert harness.run("--store", whole, "--stack", 3).exit == 0
    ticks = count(1)
    with harness.stopping(lambda: next(ticks) % 4 == 0, poll_seconds=0.1):
        codes = [harness.run("--stack", 3).exit for _ in range(3)]
    assert 4 in codes
    assert harness.run("--stack", 3).exit == 0
    assert stacked(harness.store) == [3] * 9, "all were stopped at the same step"
    assert harness.weight_bytes() == harness.weight_bytes(whole)


@pytest.mark.slow
def test_paused_all_of_them_wait(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    poll_control, asked = Interpreter.poll_control, iter(("pause", None, None, "resume"))

    def commanding(self: Interpreter) -> None:
        if len(self._running.keys) == 3 and (command := next(asked, None)) is not None:
            send_request(harness.last_run.control, command)
        poll_control(self)

    harness.write(LONG, head=HEAD)
    monkeypatch.setattr(Interpreter, "poll_control", commanding)
    monkeypatch.setattr("tickdsl.engine.workers.worker.POLL_SECONDS", 0.02)
    assert harness.run("--stack", 3).exit == 0
    assert [event.state for event in harness.events_of("control.ack")] == ["pausing", "paused", "running"]
    assert isinstance(harness.events_of("control.ack")[0], ControlAck)


@pytest.mark.slow
def test_trainings_that_cannot_be_stacked_are_done_one_by_one(
    harness: Any, submitted: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.write(PLAN)
    assert harness.run("--store", harness.folder / "alone").exit == 0
    monkeypatch.setattr(
        "tickdsl.engine.steps.stacking.stacking_obstacle", lambda given, choices, device: "the moon is full"
    )
    submitted.clear()
    assert harness.run("--stack", 3).exit == 0
    messages = [event.message for event in harness.events_of("log") if "not stacked" in event.message]
    assert len(messages) == 2, "dense networks, and tickets, which start at another epoch"
    assert all(message.endswith("the moon is full") for message in messages)
    assert [len(group) for group in submitted].count(3) == 2
    assert harness.weight_bytes() == harness.weight_bytes(harness.folder / "alone")
    assert {event.attempt for event in harness.events_of("step.start")} == {1}


@pytest.mark.slow
@pytest.mark.parametrize(("faster", "expected"), [(0.9, [1] * 9), (2.5, [3] * 9)])
def test_where_nobody_says_it_is_measured(
    harness: Any, monkeypatch: pytest.MonkeyPatch, faster: float, expected: list[int]
) -> None:
    """Stacking is measured by default on a GPU, which is simulated here."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(harness.folder / "cache"))
    monkeypatch.setattr("tickdsl.engine.launch.default_stack", lambda device: 3)
    asked: list[int] = []

    def measured(given: Sequence[object], device: torch.device) -> float:
        asked.append(len(given))
        return faster

    monkeypatch.setattr("tickdsl.engine.steps.stacking.stacking_speedup", measured)
    harness.write(PLAN)
    assert harness.run().exit == 0
    assert stacked(harness.store) == expected
    assert asked == [3], "dense and masked networks have the same size"
    slow = [event.message for event in harness.events_of("log") if "only 0.90 times as fast" in event.message]
    assert bool(slow) is (faster < 1)


@pytest.mark.parametrize("wrong", ["0", "-1", "some"])
def test_what_stack_takes(harness: Any, wrong: str) -> None:
    harness.write(PLAN)
    with pytest.raises(SystemExit):
        harness.run("--stack", wrong)


@pytest.fixture
def engine(harness: Any) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    begun: list[subprocess.Popen[str]] = []

    def begin(*flags: object) -> subprocess.Popen[str]:
        begun.append(harness.start_process(*flags))
        return begun[-1]

    yield begin
    for process in begun:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_killed_worker_costs_each_of_its_steps_one_attempt(harness: Any, engine: Any) -> None:
    harness.write("train 30ep lr=0.05 batch=32\nseeds 3\nprune weights 20%; rewind weights to 29ep\n", head=HEAD)
    process = engine("--jobs", 2, "--stack", 3, "--checkpoint-every", 0)
    deadline = time.monotonic() + 60
    while not any(isinstance(event, StepProgress) for event in run_events(harness)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first = next(event for event in run_events(harness) if isinstance(event, StepProgress))
    worker = next(
        event.worker for event in run_events(harness) if isinstance(event, StepStart) and event.step == first.step
    )
    os.kill(int(worker.removeprefix("process ")), signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    again = [event.step for event in run_events(harness) if isinstance(event, StepStart) and event.attempt == 2]
    assert len(again) == len(set(again)) == 3
    warned = [
        event for event in run_events(harness) if isinstance(event, Warn) and "killed by signal 9" in event.message
    ]
    assert len(warned) == 3


def run_events(harness: Any) -> list[Any]:
    try:
        return [record.event for record in harness.events]
    except (TickdslError, FileNotFoundError):  # the run has not created its folder yet
        return []
