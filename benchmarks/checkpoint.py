"""How long a training waits for a checkpoint of VGG-16 with momentum (118 MB): written in the background, or at once.

Both ways alternate in one process and folder. Printed are the median and the range of the CPU time until the training
continues, of its ratios, and of the slowdown in wall time of LeNet-300-100's steps during a background write.

    python benchmarks/checkpoint.py [--rounds N] [--folder DIR]
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
    """The state of VGG-16 after a step of SGD with momentum, as the training loop captures it."""
    model = models.create("vgg16", classes=10, shape=(3, 32, 32), seed=0)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9, fused=True)
    for parameter in model.parameters():
        parameter.grad = torch.rand_like(parameter)
    optimizer.step()
    return {"step": 1, "model": model.state_dict(), "optimizer": optimizer.state_dict()}


class Steps:
    """Training steps of LeNet-300-100 with batch size 60."""

    def __init__(self) -> None:
        self._model = models.create("lenet-300-100", classes=10, shape=(1, 28, 28), seed=0)
        self._optimizer = torch.optim.SGD(self._model.parameters(), 0.01, fused=True)
        self._x, self._y = torch.randn(60, 1, 28, 28), torch.randint(0, 10, (60,))

    def take(self) -> None:
        """Take one step."""
        self._optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(self._model(self._x), self._y))
        self._optimizer.step()


def measure(checkpoint_state: CheckpointState, steps: Steps, folder: Path) -> tuple[float, float, float]:
    """Milliseconds that a training waits for a background write and for a write at once, and the slowdown of steps.

    The slowdown is how many times as long steps take during the background write.
    """
    checkpoints = Checkpointer(folder, every_seconds=0)
    checkpoints.attach("0" * 64, lambda: checkpoint_state)
    background = _milliseconds(checkpoints.save_if_due, time.thread_time)
    count = 0
    start = time.perf_counter()
    while checkpoints.writing:
        steps.take()
        count += 1
    during_write = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(count):
        steps.take()
    alone = time.perf_counter() - start
    at_once = _milliseconds(checkpoints.save_now, time.process_time)
    checkpoints.detach()
    return background, at_once, during_write / alone


def _milliseconds(work: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    work()
    return (clock() - start) * 1e3


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="number of rounds (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where to write (default: the folder of temporary files)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    checkpoint_state, steps = state(), Steps()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        turns = [measure(checkpoint_state, steps, Path(folder)) for _ in range(arguments.rounds + 1)][1:]
    print("| | median | range |\n|---|---|---|")
    background, at_once, slowdowns = zip(*turns, strict=True)
    _row("background write, ms", background)
    _row("write at once, ms", at_once)
    _row("write at once, times as long", [b / a for a, b in zip(background, at_once, strict=True)])
    _row("steps during a background write, times as long", slowdowns)


def _row(label: str, values: Sequence[float]) -> None:
    print(f"| {label} | {statistics.median(values):.2f} | {min(values):.2f} to {max(values):.2f} |")


if __name__ == "__main__":
    main()
