"""The work of the engine grows linearly with the number of steps; operations are counted, not timed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import attrs
import pytest

from tickdsl.engine.messages import Message, Outcome, Task
from tickdsl.engine.scheduler.event_builders import plan_resolved_event
from tickdsl.engine.scheduler.interpreter import Interpreter
from tickdsl.engine.scheduler.step_scheduler import StepScheduler
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.plan.lower import lower
from tickdsl.plan.study import Study
from tickdsl.records import Store
from tickdsl.records.control import ControlReader
from tickdsl.records.event_decode import EventRecord
from tickdsl.records.events import Event, PlanResolved, StepInfo, StepProgress
from tickdsl.results.state_builder import MAX_TOTAL_POINTS, MIN_HISTORY_POINTS, StateBuilder

METRICS = {"accuracy": 0.9, "sparsity": 0.1, "filters": 0.9, "epochs": [[n, 0.1, 0.1, 0.9, 0.1] for n in range(50)]}


def make_study(arms: int) -> Study:
    """A study of arms that share only their dense training."""
    pipelines = "".join(
        f"arm a{n} {{ prune filters {n + 1}% x 3; rewind weights to {1 + n % 3}ep }}\n" for n in range(arms)
    )
    text = f"model small-cnn on digits\ntrain 4ep\nseeds 2\n{pipelines}compare all, random-init\n"
    resolution = resolve(load_source(Source("test.plan", text)))
    assert resolution.plan is not None, resolution.diagnostics
    return lower(resolution.plan, fingerprint=lambda data: "f" * 64, rounds=lambda arm, prune: 1)


@attrs.define
class Idle:
    """A worker group that stores results without any work."""

    store: Store
    jobs: int = 2
    tasks: list[Task] = attrs.field(factory=list)

    @property
    def has_capacity(self) -> bool:
        return len(self.tasks) < self.jobs

    @property
    def has_quiet_machine(self) -> bool:
        return not self.tasks

    @property
    def may_grow(self) -> bool:
        return False

    def submit(self, tasks: Sequence[Task]) -> str:
        self.tasks += tasks
        return "nobody"

    def poll(self, timeout: float) -> list[Message]:
        if not self.tasks:
            return []
        task = self.tasks.pop(0)
        for step in (*task.prefixes.values(), task.step):
            with self.store.writing(step.key) as draft:
                draft.finish({"operation": step.operation, "parts": step.parts, "metrics": METRICS, "seconds": 0.0})
        return [Outcome(task.step.key, "done")]

    def set_command(self, wish: int) -> None:
        pass

    def close(self) -> None:
        pass


def counted(study: Study, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count store lookups and events of a run of the study, and of a second run that finds everything stored."""
    counts: Counter[str] = Counter()
    store = Store(folder)
    verified = Store._load_checked

    def look(self: Store, key: str, hashes: bool) -> object:
        counts["looks"] += 1
        return verified(self, key, hashes)

    def emit(event: Event) -> None:
        counts["events"] += 1

    monkeypatch.setattr(Store, "_load_checked", look)
    for _ in range(2):
        emit(plan_resolved_event(study, lambda key: key in store))
        assert Interpreter(study, store, emit, ControlReader(folder / "control.jsonl")).run(lambda: Idle(store)) == 0
    monkeypatch.undo()
    return counts


def test_store_lookups_and_events_are_a_few_per_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = make_study(2), make_study(8)
    ratio = len(large.graph) / len(small.graph)
    assert ratio > 3
    one = counted(small, tmp_path / "small", monkeypatch)
    four = counted(large, tmp_path / "large", monkeypatch)
    for what, count in one.items():
        assert four[what] <= 1.1 * ratio * count, what
        assert count <= 16 * len(small.graph), what


def test_the_scheduler_looks_up_metrics_a_few_times_per_step() -> None:
    asked = []
    for arms in (20, 80):
        study, done, lookups = make_study(arms), dict[str, dict[str, float]](), Counter[str]()

        def metrics(key: str, done: dict[str, dict[str, float]] = done, count: Counter[str] = lookups) -> object:
            count[key] += 1
            return done.get(key)

        scheduler = StepScheduler(study, metrics)  # type: ignore[arg-type]
        while (key := scheduler.take()) is not None:
            for each in (*study.graph.nodes[key]["prefixes"].values(), key):
                if each not in done:
                    done[each] = {"accuracy": 0.9, "sparsity": 0.1, "filters": 0.9}
                    scheduler.finish(each)
            scheduler.pop_measured()
        assert not scheduler.pending
        asked.append(lookups.total() / len(study.graph))
    assert asked[1] <= 1.1 * asked[0]


def test_a_step_that_all_arms_share_names_each_once_and_in_order() -> None:
    study = make_study(30)
    dense = next(m.step for m in study.measurements if m.contestant == "dense" and m.seed == 1)
    assert list(study.graph.nodes[dense]["uses"]) == [(f"a{n}", 1) for n in range(30)]


@pytest.mark.parametrize(("trainings", "most"), [(10, 512), (1_000, 200), (5_000, 40), (20_000, MIN_HISTORY_POINTS)])
def test_histories_share_one_budget(trainings: int, most: int) -> None:
    steps = tuple(
        StepInfo(id=str(n), key=str(n), operation="train", label="train", arms=(), epochs=1000.0)
        for n in range(trainings)
    )
    fold = StateBuilder()
    fold.add(EventRecord(0, 0.0, PlanResolved(arms=(), contestants=(), seeds=(1,), steps=steps, measurements=())))
    for epoch in range(1, 1001):
        report = StepProgress(step="7", epoch=float(epoch), epochs=1000.0, loss=0.1, accuracy=0.9, lr=0.1)
        fold.add(EventRecord(epoch, float(epoch), report))
    course = fold.state.steps["7"].history
    assert most / 2 <= len(course) <= most
    assert course[-1].epoch == 1000
    assert len(course) * trainings <= max(MAX_TOTAL_POINTS, MIN_HISTORY_POINTS * trainings)
