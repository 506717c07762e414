"""The time of a step is without the time in which it was paused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tickdsl.engine.messages import PAUSE, RUN, Message, Paused, Task
from tickdsl.engine.steps.settings import Settings
from tickdsl.engine.workers import worker
from tickdsl.plan.steps import Step


def test_a_pause_is_not_part_of_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)

    def sleep(seconds: float) -> None:
        clock.now += 100.0
        subject.command = RUN

    def step_of_three_seconds(step: Step, context: Any, prefixes: object) -> None:
        clock.now += 1.0
        subject.command = PAUSE
        context.hooks.between_steps(lambda: None)
        clock.now += 2.0
        context.store_result(step, lambda folder: {}, start_time=0.0)

    monkeypatch.setattr(worker, "run_step", step_of_three_seconds)
    for module in ("worker", "context"):
        path = f"tickdsl.engine.{'workers' if module == 'worker' else 'steps'}.{module}.time"
        monkeypatch.setattr(path, SimpleNamespace(monotonic=lambda: clock.now, sleep=sleep))
    sent: list[Message] = []
    subject = worker.Worker(Settings(tmp_path, tmp_path), sent.append)
    step = Step("init", {}, {}, 1)
    (outcome,) = subject.run_tasks([Task(step, {})])
    assert outcome.status == "done" and outcome.seconds == 3.0
    assert subject._context.store.get(step.key).data["seconds"] == 3.0
    assert sent == [Paused(step.key)]
