"""In the kernel of a notebook: a bar, a table, and an interrupt after which the same cell goes on."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from live_runs import await_training, first_epochs, weight_bytes

import tickdsl
from tickdsl.api.progress import ProgressBar, in_notebook
from tickdsl.records import find_run, read_events
from tickdsl.records.events import RunEnd, StepInfo
from tickdsl.results import RunState, StepState

PLAN = """\
model small-cnn width=0.5
data synthetic size=8 train=256 test=64
train 60ep lr=0.1 batch=16
seeds 1
prune filters 30%; rewind weights to init
"""
CELL = f"import tickdsl\ntickdsl.run({PLAN!r}, jobs=1, device='cpu', checkpoint_every=0)"


def a_state() -> RunState:
    info = StepInfo(id="s1", key="k", operation="train", label="judge level 2", arms=("a",), seed=3, epochs=8.0)
    running = StepState(info, status="running", epoch=3, epochs=8)
    done = StepState(attrs.evolve(info, id="s0"), status="done")
    return RunState(status="running", started=1.0, now=66.0, steps={"s0": done, "s1": running})


def test_the_bar_says_how_far_the_run_is_in_html_and_in_text() -> None:
    bar = ProgressBar(a_state(), ["warning: <b>bold</b> & more"])
    assert repr(bar).splitlines()[0] == "1/2 steps, 1:05, train ticket, round 2, seed 3, epoch 3/8"
    page = bar._repr_html_()
    assert '<progress value="1" max="2"' in page
    assert "warning: &lt;b&gt;bold&lt;/b&gt; &amp; more" in page and "<b>" not in page


def test_a_test_is_no_notebook() -> None:
    assert not in_notebook()


@attrs.frozen
class Kernel:
    """The kernel of a notebook."""

    manager: Any
    client: Any

    def wait(self, message: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The reply to a cell, and what it has shown."""
        reply = self.client._recv_reply(message, timeout=180)["content"]
        shown: list[dict[str, Any]] = []
        while True:
            output = self.client.get_iopub_msg(timeout=60)
            if output["parent_header"].get("msg_id") != message:
                continue
            if output["msg_type"] == "status" and output["content"]["execution_state"] == "idle":
                return reply, shown
            shown.append({"type": output["msg_type"], **output["content"]})


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    manager = pytest.importorskip("jupyter_client").KernelManager(kernel_name="python3")
    path = os.pathsep.join(path for path in sys.path if path)
    manager.start_kernel(cwd=str(tmp_path), env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path})
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=120)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.mark.slow
def test_an_interrupted_cell_keeps_a_checkpoint_and_goes_on_when_it_is_run_again(
    kernel: Kernel, tmp_path: Path
) -> None:
    message = kernel.client.execute(CELL)
    await_training(tmp_path, kernel.manager.is_alive)
    kernel.manager.interrupt_kernel()
    reply, shown = kernel.wait(message)
    assert (reply["status"], reply["ename"]) == ("error", "KeyboardInterrupt")
    (error,) = [output for output in shown if output["type"] == "error"]
    assert error["traceback"] == ["KeyboardInterrupt: the run was interrupted; the same call continues it"]
    end = list(read_events(find_run(tmp_path / "runs").events))[-1].event
    assert isinstance(end, RunEnd) and end.status == "interrupted"
    assert list(tmp_path.glob(".tick/store/unfinished/*/*/training.ckpt"))

    reply, shown = kernel.wait(kernel.client.execute(CELL))
    assert reply["status"] == "ok", reply
    assert max(first_epochs(tmp_path).values()) > 1, "it went on from the checkpoint"
    pages = [output["data"].get("text/html", "") for output in shown if "data" in output]
    assert "<progress" in pages[0] and "<progress" in pages[-2] and "<table" in pages[-1]
    assert [output for output in shown if output["type"] == "stream" and "\r" in output["text"]] == []
    whole = tmp_path / "whole"
    tickdsl.run(PLAN, jobs=1, device="cpu", store=whole, out=tmp_path / "other", progress=False)
    assert weight_bytes(tmp_path / ".tick" / "store") == weight_bytes(whole)
