"""Workers know how many of them are at work, so that energy is divided among those."""

from __future__ import annotations

from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tickdsl.engine.messages import AtWork, Outcome, Task
from tickdsl.engine.steps.settings import Settings
from tickdsl.engine.workers.processes import WorkerPool, _WorkerProcess
from tickdsl.plan.steps import Step


def received(pipe: Connection) -> list[int]:
    """The numbers that a worker was told since the last call."""
    messages = []
    while pipe.poll():
        messages.append(pipe.recv())
    return [message.workers for message in messages if isinstance(message, AtWork)]


def test_only_workers_with_tasks_are_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[Connection] = []

    def start_worker(pool: WorkerPool) -> _WorkerProcess:
        ours, theirs = Pipe()
        ends.append(theirs)
        pool._workers.append(_WorkerProcess(f"worker {len(ends)}", None, ours, "cpu"))
        return pool._workers[-1]

    monkeypatch.setattr(WorkerPool, "_start_worker", start_worker)
    pool = WorkerPool(Settings(tmp_path, tmp_path, jobs=8), 8)
    tasks = [Task(Step("init", {}, {}, seed), {}) for seed in range(2)]
    pool.submit(tasks[:1])
    assert received(ends[0]) == [], "a worker is alone until it is told otherwise"
    pool.submit(tasks[1:])
    assert [received(end) for end in ends] == [[2], [2]]
    ends[0].send(Outcome(tasks[0].step.key, "done"))
    assert pool.poll(1.0)
    assert [received(end) for end in ends] == [[], [1]]
    pool.submit(tasks[:1])
    assert [received(end) for end in ends] == [[], [2]], "the first one was told so before"
