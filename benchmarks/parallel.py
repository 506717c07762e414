"""One training by several processes, against the same training by one of them (`--gpus-per-training`).

Both alternate in the same processes, on the same batches. A step is an optimiser step as in a run, without tests.
Printed are the medians over the steps of the fastest round, and the range of the rounds' ratios. On CPUs, times are
processor times of one thread in each process, so that a ratio is what processes with a core each would reach if none
waited for another; wall times are printed too, which need as many idle cores as processes. On CUDA, processes have a
GPU each, and all times are wall times until the device is done.

What is exchanged in a step is counted in a training of its own, call by call; `all-reduce` is the sum of all gradients
alone, with nobody to wait for.

    python benchmarks/parallel.py [NAME …] [--processes N] [--steps N] [--rounds N] [--device cpu|cuda]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import torch
from torch import Tensor

from tickdsl.training import models
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.loop import train
from tickdsl.training.parallel.ranks import Ranks
from tickdsl.training.recipes.recipe import Recipe

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

from rank_processes import run_on_ranks

#: By network: image channels, pixels per side, batch size.
CASES: dict[str, tuple[int, int, int]] = {
    "lenet-300-100": (1, 28, 512),
    "resnet20": (3, 32, 128),
    "vgg16": (3, 32, 32),
}
#: The first steps of a training, which are not counted.
WARM_UP = 2
ALL_REDUCES = 20


@attrs.define
class Times:
    """Seconds of processor and of wall time."""

    cpu: float = 0.0
    wall: float = 0.0

    @classmethod
    def now(cls, device: torch.device) -> Times:
        """The clocks, once the device is done."""
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return cls(time.process_time(), time.perf_counter())

    def since(self, start: Times) -> Times:
        return Times(self.cpu - start.cpu, self.wall - start.wall)


class CountedRanks(Ranks):
    """Processes that count what they exchange, and how long that takes."""

    def __init__(self, ranks: Ranks, device: torch.device) -> None:
        super().__init__(ranks.rank, ranks.size)
        self.device = device
        self.calls = self.bytes = 0
        self.spent = Times()

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        self._count(sum(tensor.nbytes for tensor in tensors), lambda: super(CountedRanks, self).add_up(tensors))

    def gather(self, tensor: Tensor) -> Tensor:
        gathered: list[Tensor] = []
        self._count(tensor.nbytes, lambda: gathered.append(super(CountedRanks, self).gather(tensor)))
        return gathered[0]

    def _count(self, nbytes: int, exchange: Callable[[], None]) -> None:
        start = Times.now(self.device)
        exchange()
        spent = Times.now(self.device).since(start)
        self.calls, self.bytes = self.calls + 1, self.bytes + nbytes
        self.spent = Times(self.spent.cpu + spent.cpu, self.spent.wall + spent.wall)


def median_step(name: str, images: Dataset, recipe: Recipe, ranks: Ranks | None, device: torch.device) -> Times:
    """The median step of a training, by one process or by several."""
    model = models.create(name, classes=10, shape=images.shape, seed=0)
    moments: list[Times] = []

    def before_step() -> None:
        moments.append(Times.now(device))
        if len(moments) == WARM_UP + 1 and isinstance(ranks, CountedRanks):
            ranks.calls, ranks.bytes, ranks.spent = 0, 0, Times()

    train(model, images, recipe, seed=0, device=device, before_step=before_step, ranks=ranks, layout="contiguous")
    steps = [after.since(before) for before, after in zip(moments[WARM_UP:], moments[WARM_UP + 1 :], strict=False)]
    return Times(statistics.median(each.cpu for each in steps), statistics.median(each.wall for each in steps))


@attrs.frozen
class Measured:
    """What a process has measured.

    alone, together: the steps by round, of one process (only in the first one) and of all. calls, bytes, exchange: what
    a step exchanges. all_reduce: the sum of the gradients alone.
    """

    alone: list[Times]
    together: list[Times]
    calls: float
    bytes: float
    exchange: Times
    all_reduce: Times
    gradient_bytes: int


def measure(ranks: Ranks, name: str, steps: int, rounds: int, kind: str) -> Measured:
    """Measure both variants; run in each process."""
    device = torch.device(kind, ranks.rank) if kind == "cuda" else torch.device(kind)
    channels, side, batch = CASES[name]
    options = {"size": side, "channels": channels, "train": steps * batch, "test": 2, "classes": 10}
    images = datasets.load("synthetic", options=options)
    recipe = Recipe(length=f"{steps}it", lr=0.01, batch=batch, decay=1e-4)
    alone, together = [], []
    for _ in range(rounds):
        if ranks.rank == 0:
            alone.append(median_step(name, images, recipe, None, device))
        ranks.gather_objects(None)  # the others wait
        together.append(median_step(name, images, recipe, ranks, device))
    counted = CountedRanks(ranks, device)
    median_step(name, images, recipe, counted, device)
    per_step = 1 / (steps - WARM_UP)
    exchange = Times(counted.spent.cpu * per_step, counted.spent.wall * per_step)
    return Measured(
        alone, together, counted.calls * per_step, counted.bytes * per_step, exchange, *all_reduce(ranks, name, device)
    )


def all_reduce(ranks: Ranks, name: str, device: torch.device) -> tuple[Times, int]:
    """What it takes to add up the gradients of a network, and how many bytes they have."""
    model = models.create(name, classes=10, shape=(CASES[name][0], *(CASES[name][1],) * 2), seed=0)
    gradients = [torch.zeros_like(parameter, device=device) for parameter in model.parameters()]
    spent = []
    for _ in range(ALL_REDUCES):
        ranks.gather_objects(None)
        start = Times.now(device)
        ranks.add_up(gradients)
        spent.append(Times.now(device).since(start))
    median = Times(statistics.median(each.cpu for each in spent), statistics.median(each.wall for each in spent))
    return median, sum(gradient.nbytes for gradient in gradients)


def tell(name: str, measured: Sequence[Measured], on_cuda: bool) -> None:
    """Print what the processes have measured of a network."""

    def of(times: Times) -> float:
        return 1e3 * (times.wall if on_cuda else times.cpu)

    first, size = measured[0], len(measured)
    busiest = [max(each, key=of) for each in zip(*(each.together for each in measured), strict=True)]
    ratios = sorted(of(shared) / of(single) for shared, single in zip(busiest, first.alone, strict=True))
    together = min(map(of, busiest))
    exchange, reduce = (
        max(of(each) for each in times) for times in zip(*((m.exchange, m.all_reduce) for m in measured), strict=True)
    )
    print(
        f"{name}: {min(map(of, first.alone)):.2f} ms per step by one process, {together:.2f} ms by each of {size}, "
        f"{statistics.median(ratios):.3f} times as long ({ratios[0]:.3f} to {ratios[-1]:.3f})"
    )
    print(
        f"    exchange: {first.calls:.0f} calls per step, {first.bytes / 2**20:.2f} MiB, {exchange:.2f} ms, "
        f"{100 * exchange / together:.1f}% of a step"
    )
    print(f"    all-reduce of the gradients alone: {first.gradient_bytes / 2**20:.2f} MiB, {reduce:.2f} ms")
    if not on_cuda:
        walls = sorted(
            max(each.together[number].wall for each in measured) / single.wall
            for number, single in enumerate(first.alone)
        )
        print(f"    wall time: {statistics.median(walls):.2f} times as long ({walls[0]:.2f} to {walls[-1]:.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(CASES), metavar="NAME", help="networks (default: all)")
    parser.add_argument("--processes", type=int, default=2, metavar="N")
    parser.add_argument("--steps", type=int, default=8, help="steps of a training (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds (default: %(default)s)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    arguments = parser.parse_args()
    for name in arguments.names:
        measured = run_on_ranks(
            arguments.processes, measure, name, arguments.steps, arguments.rounds, arguments.device,
            device=arguments.device,
        )  # fmt: skip
        tell(name, measured, arguments.device == "cuda")


if __name__ == "__main__":
    main()
