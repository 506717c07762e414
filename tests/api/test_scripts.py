"""Scripts that call `tickdsl.run`: with and without a guard, with workers, interrupted and continued."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from live_runs import await_training, first_epochs, weight_bytes

import tickdsl
from tickdsl.records import Store, find_run, read_events
from tickdsl.records.events import RunEnd

PLAN = """\
model small-cnn width=0.5
data synthetic size=8 train=256 test=64
train 40ep lr=0.1 batch=16
seeds 2
prune filters 30%; rewind weights to init
"""
SCRIPT = """\
import sys
import tickdsl
print("top of the script")
def study():
    results = tickdsl.run(open("long.plan").read(), jobs=int(sys.argv[1]), device="cpu", checkpoint_every=0)
    print(results.status, len(results.frame()))
"""
GUARDED = SCRIPT + 'if __name__ == "__main__":\n    study()\n'
UNGUARDED = SCRIPT + "study()\n"

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a script in the folder of the test; it is killed after the test."""
    started: list[subprocess.Popen[str]] = []

    def start(text: str, jobs: int, plan: str = PLAN) -> subprocess.Popen[str]:
        (tmp_path / "long.plan").write_text(plan)
        (tmp_path / "script.py").write_text(text)
        process = subprocess.Popen(
            [sys.executable, "script.py", str(jobs)],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("script", [UNGUARDED, GUARDED], ids=["without a guard", "with a guard"])
def test_workers_do_not_run_the_script_again(start: Start, script: str) -> None:
    process = start(script, 2, PLAN.replace("40ep", "1ep"))
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    assert out == "top of the script\nok 4\n"
    assert "finished after" in err and "\r" not in err


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_interrupted_it_keeps_checkpoints_and_the_next_call_ends_with_the_same_bits(
    start: Start, tmp_path: Path, jobs: int
) -> None:
    first = start(UNGUARDED, jobs)
    await_training(tmp_path, lambda: first.poll() is None)
    os.killpg(first.pid, signal.SIGINT)  # as a terminal does
    out, err = first.communicate(timeout=60)
    assert first.returncode == -signal.SIGINT
    assert out == "top of the script\n"
    assert "KeyboardInterrupt: the run was interrupted; the same call continues it" in err
    store = tmp_path / ".tick" / "store"
    assert list(store.glob("unfinished/*/*/training.ckpt"))
    end = list(read_events(find_run(tmp_path / "runs").events))[-1].event
    assert isinstance(end, RunEnd) and end.status == "interrupted"

    second = start(UNGUARDED, jobs)
    out, err = second.communicate(timeout=180)
    assert second.returncode == 0, err
    assert out.endswith("ok 4\n")
    assert max(first_epochs(tmp_path).values()) > 1, "it went on from the checkpoint"
    assert all(Store(store).check(key) for key in weight_bytes(store))
    whole = tmp_path / "whole"
    tickdsl.run(PLAN, jobs=1, device="cpu", store=whole, out=tmp_path / "other", progress=False)
    assert weight_bytes(store) == weight_bytes(whole)
