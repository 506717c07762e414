"""The step time of tickdsl's training against the machine's limits: its arithmetic rate and its memory bandwidth.

    python benchmarks/floor.py [--device cuda] [--precision auto] [--threads N] [--epochs N] [NAME …]

The rate is measured with a product of two square matrices in the training's precision, the bandwidth with a copy. A
step's operations are torch's count for the matrix products of the forward and backward pass. Its bytes are the minimum
that unfused operators move: every output is written, read by the next operator and read again in the backward pass, its
gradient is written and read; a parameter is read twice, its gradient is written and read, and weight and momentum are
read and written. The measured time is that of the fastest of several epochs, without tests, as `tickdsl run` trains: on
a CPU, CPU time with one thread, otherwise wall time. "Share of rate" is the share of the arithmetic rate that training
reaches; "measured / floor" is the ratio of the step time to the larger of the two lower bounds.
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
    """A network, the side and channels of its images, the batch size, and the steps per epoch."""

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
    """A device's measured limits. rate: operations per second in `dtype`; bandwidth: bytes per second."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        cuda = device.type == "cuda"
        side, count = (8192, 2**28) if cuda else (1024, 2**26)
        left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        self.rate = 2 * side**3 / self._seconds(lambda: left @ right)
        source, target = (torch.zeros(count, device=device) for _ in range(2))
        self.bandwidth = 2 * 4 * count / self._seconds(lambda: target.copy_(source))

    def clock(self) -> float:
        """The time in seconds: CPU time with one thread, otherwise wall time once the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif torch.get_num_threads() == 1:
            return time.thread_time()
        return time.perf_counter()

    def _seconds(self, work: Callable[[], object]) -> float:
        work()
        timings = []
        for _ in range(10):
            start = self.clock()
            work()
            timings.append(self.clock() - start)
        return min(timings)


def operations(case: Case, images: datasets.Dataset) -> int:
    """Floating-point operations of the matrix products of one step, forward and backward."""
    model = models.create(case.model, classes=images.classes, shape=images.shape, seed=0).train()
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(model(torch.randn(case.batch, *images.shape)), torch.zeros(case.batch).long()).backward()
    return int(counter.get_total_flops())


def bytes_moved(case: Case, images: datasets.Dataset, size: int) -> int:
    """Bytes moved by one step. size: bytes per number of the activations."""
    model = models.create(case.model, classes=images.classes, shape=images.shape, seed=0)
    graph = trace(model, (torch.zeros(2, *images.shape),))
    whole = cost(graph, Structure.dense(graph))
    return 5 * whole.activation_bytes * case.batch // 2 * size // 4 + 8 * 4 * whole.params


def step_seconds(case: Case, images: datasets.Dataset, machine: Machine, precision: str, epochs: int) -> float:
    """Seconds per step in the fastest epoch after the first."""
    model = models.create(case.model, classes=images.classes, shape=images.shape, seed=0)
    recipe = Recipe(length=f"{epochs + 1}ep", batch=case.batch, lr=0.01, decay=5e-4, precision=precision)
    starts: list[float] = []
    ends: list[float] = []
    steps = 0

    def before_step() -> None:
        nonlocal steps
        if steps % case.steps == 0:
            starts.append(machine.clock())
        elif steps % case.steps == case.steps - 1:
            ends.append(machine.clock())  # leave out the last step and the test
        steps += 1

    loop.train(model, images, recipe, seed=0, device=machine.device, before_step=before_step)
    return min(end - start for start, end in list(zip(starts, ends, strict=True))[1:]) / (case.steps - 1)


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
    dtype = devices.autocast_type(options.precision, device) or torch.float32
    torch.backends.cudnn.allow_tf32 = False  # fp32 convolutions in full precision, as the measured rate
    machine = Machine(device, dtype)
    precision = str(dtype).removeprefix("torch.")
    print(f"{machine.rate / 1e12:.3g} TFLOP/s in {precision}, {machine.bandwidth / 1e9:.3g} GB/s\n")
    print("| network | batch | GFLOP | floor, ms | MB | floor, ms | measured, ms | share of rate | measured / floor |")
    print("|---|---|---|---|---|---|---|---|---|")
    for case in CUDA if device.type == "cuda" else CPU:
        if options.names and case.model not in options.names:
            continue
        data_options = {"size": case.side, "channels": case.channels, "train": case.batch * case.steps, "test": 100}
        images = datasets.load("synthetic", options=data_options)
        flops, size = operations(case, images), bytes_moved(case, images, dtype.itemsize)
        seconds = step_seconds(case, images, machine, options.precision, options.epochs)
        by_rate, by_bytes = flops / machine.rate, size / machine.bandwidth
        print(
            f"| {case.model} | {case.batch} | {flops / 1e9:.3g} | {1e3 * by_rate:.3g} | {size / 1e6:.3g} "
            f"| {1e3 * by_bytes:.3g} | {1e3 * seconds:.3g} | {by_rate / seconds:.0%} "
            f"| {seconds / max(by_rate, by_bytes):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
