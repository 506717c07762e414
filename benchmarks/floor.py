"""Our training beside what this machine could do at best: matrix operations over its rate, bytes over its bandwidth.

    python benchmarks/floor.py [--device cuda] [--precision auto] [--threads N] [--epochs N] [NAME …]

Rate and bandwidth are measured first, by a product of two square matrices in the precision of the training and by a
copy. A step's operations are torch's own count of the products forward and backward. Its bytes are the fewest that
operators one by one can move: every output is written, read by the next and again on the way back, its gradient written
and read; a parameter is read twice, its gradient written and read, weight and momentum read and written. Measured is
the fastest of several epochs of our training, its test left out, as `tickdsl run` does it: on a CPU in processor time
of one thread, else by the wall. The share of the rate says how near a network of matrix products comes to the machine,
the ratio to the larger floor what stands between.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import attrs
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from tickdsl.graph import Structure, cost, trace
from tickdsl.training import devices, loop, models
from tickdsl.training.data import datasets
from tickdsl.training.recipes.recipe import Recipe


@attrs.frozen
class Case:
    """A network, the side and channels of its pictures, the batch, and the steps of an epoch that is timed."""

    model: str
    side: int
    channels: int
    batch: int
    steps: int


CPU = (
    Case("lenet-300-100", 28, 1, 60, 200),
    Case("lenet-300-100", 28, 1, 512, 40),
    Case("resnet20", 32, 3, 128, 6),
    Case("vgg16", 32, 3, 128, 2),
)
CUDA = (
    Case("lenet-300-100", 28, 1, 60, 1000),
    Case("lenet-300-100", 28, 1, 512, 117),
    Case("resnet20", 32, 3, 128, 390),
    Case("resnet20", 32, 3, 512, 97),
    Case("vgg16", 32, 3, 128, 390),
    Case("vgg16", 32, 3, 512, 97),
)


class Machine:
    """What a device can do at best. rate: operations a second in `kind`; bandwidth: bytes a second."""

    def __init__(self, device: torch.device, kind: torch.dtype) -> None:
        self.device, self.kind = device, kind
        cuda = device.type == "cuda"
        side, count = (8192, 2**28) if cuda else (1024, 2**26)
        one, other = (torch.randn(side, side, device=device, dtype=kind) for _ in range(2))
        self.rate = 2 * side**3 / self._seconds(lambda: one @ other)
        here, there = (torch.zeros(count, device=device) for _ in range(2))
        self.bandwidth = 2 * 4 * count / self._seconds(lambda: there.copy_(here))

    def clock(self) -> float:
        """Seconds: of the processor on one thread, of the wall once the device is done otherwise."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif torch.get_num_threads() == 1:
            return time.thread_time()
        return time.perf_counter()

    def _seconds(self, work: Callable[[], object]) -> float:
        work()
        found = []
        for _ in range(10):
            began = self.clock()
            work()
            found.append(self.clock() - began)
        return min(found)


def operations(case: Case, images: datasets.Dataset) -> int:
    """Floating-point operations of the products of one step, forward and backward."""
    model = models.create(case.model, classes=images.classes, shape=images.shape, seed=0).train()
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(model(torch.randn(case.batch, *images.shape)), torch.zeros(case.batch).long()).backward()
    return int(counter.get_total_flops())


def moved(case: Case, images: datasets.Dataset, size: int) -> int:
    """Bytes of one step whose activations have `size` bytes a number."""
    model = models.create(case.model, classes=images.classes, shape=images.shape, seed=0)
    graph = trace(model, (torch.zeros(2, *images.shape),))
    whole = cost(graph, Structure.dense(graph))
    return 5 * whole.activation_bytes * case.batch // 2 * size // 4 + 8 * 4 * whole.params


def measured(case: Case, images: datasets.Dataset, machine: Machine, precision: str, epochs: int) -> float:
    """Seconds of a step, the first epoch left out."""
    model = models.create(case.model, classes=images.classes, shape=images.shape, seed=0)
    recipe = Recipe(length=f"{epochs + 1}ep", batch=case.batch, lr=0.01, decay=5e-4, precision=precision)
    begun: list[float] = []
    ended: list[float] = []
    steps = 0

    def before_step() -> None:
        nonlocal steps
        if steps % case.steps == 0:
            begun.append(machine.clock())
        elif steps % case.steps == case.steps - 1:
            ended.append(machine.clock())  # the last step and the test behind it are left out
        steps += 1

    loop.train(model, images, recipe, seed=0, device=machine.device, before_step=before_step)
    return min(end - start for start, end in list(zip(begun, ended, strict=True))[1:]) / (case.steps - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    kind = devices.autocast_type(options.precision, device) or torch.float32
    torch.backends.cudnn.allow_tf32 = False  # in fp32 convolutions count as precisely as the products of the rate
    machine = Machine(device, kind)
    precision = str(kind).removeprefix("torch.")
    print(f"{machine.rate / 1e12:.3g} TFLOP/s in {precision}, {machine.bandwidth / 1e9:.3g} GB/s\n")
    print("| network | batch | GFLOP | floor, ms | MB | floor, ms | measured, ms | share of rate | measured / floor |")
    print("|---|---|---|---|---|---|---|---|---|")
    for case in CUDA if device.type == "cuda" else CPU:
        if options.names and case.model not in options.names:
            continue
        shaped = {"size": case.side, "channels": case.channels, "train": case.batch * case.steps, "test": 100}
        images = datasets.load("synthetic", options=shaped)
        flops, size = operations(case, images), moved(case, images, kind.itemsize)
        seconds = measured(case, images, machine, options.precision, options.epochs)
        by_rate, by_bytes = flops / machine.rate, size / machine.bandwidth
        print(
            f"| {case.model} | {case.batch} | {flops / 1e9:.3g} | {1e3 * by_rate:.3g} | {size / 1e6:.3g} "
            f"| {1e3 * by_bytes:.3g} | {1e3 * seconds:.3g} | {by_rate / seconds:.0%} "
            f"| {seconds / max(by_rate, by_bytes):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
