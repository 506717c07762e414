"""How runs end: the same exit code in the events and of the process, whatever the cause."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from written_runs import write_run

from tickdsl.engine import launch as launch_module
from tickdsl.engine.launch import LaunchOptions, launch
from tickdsl.engine.scheduler.interpreter import Interpreter
from tickdsl.errors import TickdslError
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source

PLAN = "train 1ep batch=64\nprune weights 20%; rewind lr\n"
HEAD = "model small-cnn width=0.5\ndata synthetic size=8 train=64 test=32\n"


@pytest.mark.parametrize("error", [TickdslError("the disk has gone"), KeyboardInterrupt()])
def test_the_exit_code_of_the_process_is_in_the_events(
    harness: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(self: Interpreter, start_workers: object) -> int:
        raise error

    monkeypatch.setattr(Interpreter, "run", fail)
    harness.write(PLAN, head=HEAD)
    result = harness.run()
    (end,) = harness.events_of("run.end")
    assert end.exit == result.exit == (2 if isinstance(error, TickdslError) else 130)
    assert end.status == ("failed" if isinstance(error, TickdslError) else "interrupted")


def test_an_error_of_tickdsl_itself_is_in_the_events(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Interpreter, "run", lambda self, start_workers: 1 // 0)
    harness.write(PLAN, head=HEAD)
    with pytest.raises(ZeroDivisionError):
        harness.run()
    (end,) = harness.events_of("run.end")
    assert (end.exit, end.status) == (1, "failed") and "ZeroDivisionError" in end.message


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
@pytest.mark.parametrize("ignored", [False, True])
def test_a_terminal_that_closes_stops_the_run_unless_under_nohup(harness: Any, ignored: bool) -> None:
    harness.write("train 4ep batch=16\nprune weights 20%; rewind lr\n", head=HEAD)

    sent: list[int] = []

    def hang_up() -> bool:
        if not sent and harness.events_of("step.progress"):
            sent.append(signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGHUP)
        return False

    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        with harness.stopping(hang_up, poll_seconds=0.0):
            result = harness.run()
    finally:
        signal.signal(signal.SIGHUP, previous)
    assert result.exit == (0 if ignored else 4)
    assert sent and (ignored or harness.events_of("checkpoint"))


def test_a_run_that_cannot_be_read_hides_no_other(harness: Any) -> None:
    out = harness.folder / "runs"
    write_run(out)
    unreadable = write_run(out, plan="other")
    unreadable.events.unlink()
    unreadable.events.mkdir()
    result = harness.call("ls", "--out", out)
    assert result.exit == 0
    assert "colt" in result.out and "ok" in result.out and "unreadable" in result.out
    assert str(unreadable.events) in result.err


def test_threads_that_launch_runs_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = resolve(load_source(Source("test.plan", HEAD + PLAN))).plan
    assert plan is not None
    at_once, most, exits = [0], [0], []
    run = launch_module._launch

    def counted(*arguments: Any) -> Any:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        try:
            return run(*arguments)
        finally:
            at_once[0] -= 1

    monkeypatch.setattr(launch_module, "_launch", counted)
    options = LaunchOptions(tmp_path / "store", tmp_path / "runs", tmp_path / "data", jobs=1, device="cpu")

    def start() -> None:
        exits.append(launch(plan, PLAN, options, lambda record: None).exit)

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert exits == [0, 0] and most == [1]
