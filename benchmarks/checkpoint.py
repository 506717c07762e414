"""How long a training waits for a checkpoint of VGG-16 with momentum, 118 MB: copied and written by a thread, beside
written at once.

Both sides take turns in one process, into one folder; printed are medians and ranges: CPU time that passes before the
training goes on, its ratios, and, by the wall clock, how much slower steps of LeNet-300-100 are while a thread writes.
`python benchmarks/checkpoint.py [--rounds N] [--folder DIR]`
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch.nn import functional as F

from tickdsl.training import models
from tickdsl.training.checkpoints import Checkpointer, CheckpointState


def state() -> CheckpointState:
    """VGG-16 after a step of SGD with momentum, as the loop captures it."""
    model = models.create("vgg16", classes=10, shape=(3, 32, 32), seed=0)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9, fused=True)
    for parameter in model.parameters():
        parameter.grad = torch.rand_like(parameter)
    optimizer.step()
    return {"step": 1, "model": model.state_dict(), "optimizer": optimizer.state_dict()}


class Steps:
    """Steps of LeNet-300-100 at batch 60."""

    def __init__(self) -> None:
        self._model = models.create("lenet-300-100", classes=10, shape=(1, 28, 28), seed=0)
        self._optimizer = torch.optim.SGD(self._model.parameters(), 0.01, fused=True)
        self._x, self._y = torch.randn(60, 1, 28, 28), torch.randint(0, 10, (60,))

    def take(self) -> None:
        """One."""
        self._optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(self._model(self._x), self._y))
        self._optimizer.step()


def measure(captured: CheckpointState, steps: Steps, folder: Path) -> tuple[float, float, float]:
    """Milliseconds that a training waits for a thread's write, and for a write at once; and how many times longer its
    steps take while the thread writes.
    """
    checkpoints = Checkpointer(folder, every_seconds=0)
    checkpoints.attach("0" * 64, lambda: captured)
    copied = _milliseconds(checkpoints.save_if_due, time.thread_time)
    count = 0
    began = time.perf_counter()
    while checkpoints.writing:
        steps.take()
        count += 1
    beside = time.perf_counter() - began
    began = time.perf_counter()
    for _ in range(count):
        steps.take()
    alone = time.perf_counter() - began
    at_once = _milliseconds(checkpoints.save_now, time.process_time)
    checkpoints.detach()
    return copied, at_once, beside / alone


def _milliseconds(work: Callable[[], object], clock: Callable[[], float]) -> float:
    began = clock()
    work()
    return (clock() - began) * 1e3


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where to write (default: where temporary files lie)")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    captured, steps = state(), Steps()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        turns = [measure(captured, steps, Path(folder)) for _ in range(chosen.rounds + 1)][1:]
    print("| what | median | range |\n|---|---|---|")
    copied, at_once, slower = zip(*turns, strict=True)
    _row("a thread writes a copy, ms", copied)
    _row("written at once, ms", at_once)
    _row("times as long", [b / a for a, b in zip(copied, at_once, strict=True)])
    _row("steps while the thread writes, times as long", slower)


def _row(what: str, found: Sequence[float]) -> None:
    print(f"| {what} | {statistics.median(found):.2f} | {min(found):.2f} to {max(found):.2f} |")


if __name__ == "__main__":
    main()
