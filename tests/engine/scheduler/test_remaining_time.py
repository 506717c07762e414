"""What a run says about what is left, on a clock on which an epoch takes a second."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from test_step_scheduler import make_study

from tickdsl.engine.messages import Message, Outcome, Progress, RewindPointSaved, Task
from tickdsl.engine.scheduler.event_builders import plan_resolved_event
from tickdsl.engine.scheduler.forecast import steps_to_run, unreached_steps
from tickdsl.engine.scheduler.interpreter import Interpreter
from tickdsl.moments import Moment
from tickdsl.plan.study import Study
from tickdsl.records import EventRecord, Store
from tickdsl.records.control import ControlReader
from tickdsl.records.events import Event, PlanResolved, RunStart
from tickdsl.results.plain_progress import PlainProgress
from tickdsl.results.state_builder import StateBuilder, build_state

#: The images and the batch of digits; trainings take 4 epochs.
PER_EPOCH, EPOCHS = math.ceil(1437 / 128), 4
SHAPES = {
    "rewound to the start": "prune filters 20% x 4; rewind weights\ncompare random-init\n",
    "late": "prune filters 20% x 4; rewind weights to 3ep\n",
    "late, in steps": "prune filters 20% x 4; rewind weights to 40it\n",
    "late, in percent": "prune weights 20% x 4; rewind lr to 50%\ncompare random-init\n",
    "early-bird": "prune filters 30% until mask-distance < 0.1; rewind weights to 2ep\n",
    "until": "arm a { prune filters 30% until 95%; rewind weights to 1ep }\narm b { prune weights 20%; rewind lr }\n"
    "compare a, b\n",
}
ENDING = "prune weights 20% x 6; rewind lr\nstop when accuracy < 50%\n"


@attrs.define
class Worker:
    """Runs one task at a time and reports its epochs, each on the recipe's clock, as a training does."""

    store: Store
    metrics: Callable[[str], dict[str, Any]]
    now: float = 1000.0
    trained: float = 0.0
    messages: list[Message] = attrs.field(factory=list)

    @property
    def has_capacity(self) -> bool:
        return not self.messages

    @property
    def has_quiet_machine(self) -> bool:
        return self.has_capacity

    @property
    def may_grow(self) -> bool:
        return False

    def submit(self, tasks: Sequence[Task]) -> str:
        (task,) = tasks
        step, total = task.step, EPOCHS * PER_EPOCH
        if step.operation == "train":
            at, end = (
                Moment.parse(step.args.get(name, default)).steps(PER_EPOCH, total)
                for name, default in (("start", "init"), ("stop", "end"))
            )
            report = {"epochs": math.ceil(end / PER_EPOCH)}
            while at < end:
                epoch = at // PER_EPOCH + 1
                until = min(end, epoch * PER_EPOCH)
                self.messages.append(Progress(step.key, {**report, "epoch": epoch, "lr": (until - at) / PER_EPOCH}))
                at = until
        self.messages += [RewindPointSaved(point.key) for point in task.prefixes.values()]
        self.messages.append(Outcome(step.key, "done", seconds=1.0))
        for each in (*task.prefixes.values(), step):
            with self.store.writing(each.key) as draft:
                draft.finish({"operation": each.operation, "parts": each.parts, "metrics": self.metrics(each.key)})
        return "worker"

    def poll(self, timeout: float) -> list[Message]:
        message = self.messages.pop(0)
        if isinstance(message, Progress):
            self.now += message.report["lr"]  # the share of an epoch that it took
            self.trained += message.report["lr"]
        else:
            self.now += 0.01
        return [message]

    def set_command(self, command: int) -> None:
        pass

    def close(self) -> None:
        pass


def run(study: Study, folder: Path, metrics: Callable[[str], dict[str, Any]]) -> tuple[list[EventRecord], Worker]:
    """The events of a run, and what its worker did."""
    store = Store(folder / "store")
    worker = Worker(store, metrics)
    records: list[EventRecord] = []

    def emit(event: Event) -> None:
        records.append(EventRecord(len(records), worker.now, event))

    emit(
        RunStart(
            run="r",
            plan="p",
            path="p",
            argv=(),
            pid=1,
            host="h",
            boot="b",
            versions={},
            jobs=1,
            device="cpu",
            store="s",
        )
    )
    emit(plan_resolved_event(study, store.__contains__, metrics=store.metrics))
    assert Interpreter(study, store, emit, ControlReader(folder / "control")).run(lambda: worker) == 0
    return records, worker


def good(key: str) -> dict[str, Any]:
    return {"accuracy": 0.9, "sparsity": 0.0, "filters": 1.0}


def announced(records: Sequence[EventRecord]) -> float:
    """The epochs that a run announces."""
    resolved = records[1].event
    assert isinstance(resolved, PlanResolved)
    return sum(step.epochs or 0.0 for step in resolved.steps if step.expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_epochs_announced_are_trained(shape: str, tmp_path: Path) -> None:
    study = make_study(SHAPES[shape])
    records, worker = run(study, tmp_path, good)
    assert announced(records) == pytest.approx(worker.trained)
    records, worker = run(study, tmp_path, good)
    assert announced(records) == worker.trained == 0
    measured = {m.step for m in study.measurements}
    for lost in set(study.graph) - measured:
        shutil.rmtree(tmp_path / "store" / "results" / lost[:2] / lost)
    assert announced(run(study, tmp_path, good)[0]) == 0, "nothing that is measured needs the others"


@pytest.mark.parametrize("shape", SHAPES)
def test_the_rest_of_a_run_is_estimated(shape: str, tmp_path: Path) -> None:
    records, worker = run(make_study(SHAPES[shape]), tmp_path, good)
    for share in (0.5, 0.8, 0.9):
        now = records[0].t + share * (worker.now - records[0].t)
        state = build_state(record for record in records if record.t <= now)
        assert state.eta == pytest.approx(worker.now - state.now, rel=0.25), share
        assert not state.open_ended


def test_of_an_arm_that_can_end_early_only_a_bound_is_told(tmp_path: Path) -> None:
    study = make_study(ENDING)
    bad = {level.ticket for level in study.levels if level.level == 3}
    records, worker = run(study, tmp_path, lambda key: {**good(key), "accuracy": 0.4 if key in bad else 0.9})
    builder = StateBuilder()
    for record in records:
        builder.add(record)
        if builder.state.eta is not None:
            assert builder.state.eta >= 0.75 * (worker.now - record.t)
    assert builder.state.open_ended
    assert builder.state.count("skipped") == 6 and builder.state.count("waiting") == 0
    assert announced(records) > worker.trained


def test_a_bound_is_called_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records, _ = run(make_study(ENDING), tmp_path, good)
    progress = PlainProgress(sys.stderr, interval=0.0, live=False)
    for record in records:
        progress.show(record)
    printed = capsys.readouterr().err
    assert ", at most 28 epochs to train" in printed
    assert "at most 0:0" in printed


def test_a_level_that_is_superfluous_is_skipped_at_once(tmp_path: Path) -> None:
    """Another arm goes on for long; what is left of the first one must not count meanwhile."""
    study = make_study(
        "arm a { prune weights 20% x 5 until accuracy < 50%; rewind lr }\n"
        "arm b { prune filters 10% x 5; rewind lr }\ncompare a, b\n"
    )
    bad = {level.ticket for level in study.levels if level.level == 1 and level.arm == "a"}
    records, worker = run(study, tmp_path, lambda key: {**good(key), "accuracy": 0.4 if key in bad else 0.9})
    now = records[0].t + 0.8 * (worker.now - records[0].t)
    state = build_state(record for record in records if record.t <= now)
    assert state.eta == pytest.approx(worker.now - state.now, rel=0.25)
    assert state.count("skipped") == 8


def test_only_what_is_missing_is_expected() -> None:
    study = make_study(SHAPES["late"])
    measured = {m.step for m in study.measurements}
    assert steps_to_run(study, measured.__contains__) == set()
    some = sorted(measured)[0]
    expected = steps_to_run(study, (measured - {some}).__contains__)
    assert some in expected
    assert not any(study.graph.nodes[key].get("prefix_of") in expected for key in expected)


@pytest.mark.parametrize("text", [ENDING, SHAPES["late"]])
@pytest.mark.parametrize("last", [1, 3])
def test_nothing_is_left_to_train_after_a_run_whose_arms_have_ended(tmp_path: Path, text: str, last: int) -> None:
    study = make_study(text)
    bad = {level.ticket for level in study.levels if level.level == last}
    store = Store(tmp_path / "store")
    records, _ = run(study, tmp_path, lambda key: {**good(key), "accuracy": 0.4 if key in bad else 0.9})
    assert steps_to_run(study, store.__contains__, store.metrics) == set()
    ended = build_state(records).steps.values()
    skipped = {step.info.key for step in ended if step.status == "skipped"}
    unreached = unreached_steps(study, store.metrics)
    assert {key for key in unreached if key not in store} == skipped
    assert bool(skipped) == (text == ENDING)
    again, worker = run(study, tmp_path, good)
    assert announced(again) == worker.trained == 0
