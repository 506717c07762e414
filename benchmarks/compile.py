"""Forward and backward passes of a compiled network against the uncompiled one, and the cost of compiling.

Both alternate, in channels_last, timed in CPU time with one thread. Printed are the median and the range of the rounds'
ratios, and after how many steps compiling pays off.

    python benchmarks/compile.py [NAME …] [--rounds N] [--batch N]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from tickdsl.plurals import plural
from tickdsl.training import models
from tickdsl.training.memory_layouts import set_memory_format
from tickdsl.training.step.compilation import compile_model


def passes(name: str, size: int, batch: int, compiled: bool) -> Callable[[], object]:
    """A function that runs a forward and backward pass, on the same images each time."""
    torch.manual_seed(0)
    model = models.create(name, classes=10, shape=(3, size, size), seed=0).train()
    set_memory_format(model, torch.channels_last)
    forward: Callable[[Tensor], Tensor] = compile_model(model) if compiled else model
    images, labels = torch.randn(batch, 3, size, size), torch.randint(0, 10, (batch,))
    parameters = list(model.parameters())
    return lambda: torch.autograd.grad(F.cross_entropy(forward(images), labels), parameters)


def seconds(work: Callable[[], object]) -> float:
    start = time.thread_time()
    work()
    return time.thread_time() - start


def compilation(work: Callable[[], object]) -> float:
    """CPU seconds of the first call, including the compiler's processes."""

    def cpu_seconds() -> float:
        usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    before = cpu_seconds()
    work()
    return cpu_seconds() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["resnet20"])
    parser.add_argument("--rounds", type=int, default=7, help="number of rounds (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=128)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.names:
        size = 28 if name.startswith("lenet") else 32
        eager_pass = passes(name, size, arguments.batch, False)
        compiled_pass = passes(name, size, arguments.batch, True)
        cost = compilation(compiled_pass)
        eager_pass()
        turns = [(seconds(eager_pass), seconds(compiled_pass)) for _ in range(arguments.rounds)]
        ratios = [eager / compiled for eager, compiled in turns]
        saved = statistics.median(eager - compiled for eager, compiled in turns)
        payoff = f"pays off after {plural(round(cost / saved), 'step')}" if saved > 0 else "never pays off"
        eager_ms = 1e3 * statistics.median(eager for eager, _ in turns)
        print(
            f"{name:<12} {statistics.median(ratios):5.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f}), "
            f"{eager_ms:.0f} ms uncompiled, {cost:.0f} s to compile, {payoff}",
            flush=True,
        )


if __name__ == "__main__":
    main()
