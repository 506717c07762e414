"""A compiled network beside itself: forward and backward in turns, both in channels_last, and what compiling cost.

Each turn's figure is processor time of one thread; printed are the median and the range of the turns' ratios, and after
how many steps the compilation is paid back. `python benchmarks/compile.py [NAME …] [--rounds N] [--batch N]`
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

from tickdsl.training import models
from tickdsl.training.devices import set_memory_format
from tickdsl.training.step.compilation import compile_model


def passes(name: str, size: int, batch: int, wrapped: bool) -> Callable[[], object]:
    """One forward and backward pass on the same pictures each time."""
    torch.manual_seed(0)
    model = models.create(name, classes=10, shape=(3, size, size), seed=0).train()
    set_memory_format(model, torch.channels_last)
    forward: Callable[[Tensor], Tensor] = compile_model(model) if wrapped else model
    pictures, answers = torch.randn(batch, 3, size, size), torch.randint(0, 10, (batch,))
    parameters = list(model.parameters())
    return lambda: torch.autograd.grad(F.cross_entropy(forward(pictures), answers), parameters)


def seconds(work: Callable[[], object]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began


def compilation(work: Callable[[], object]) -> float:
    """Processor seconds of the first call, the compiler's processes included."""

    def used() -> float:
        found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(each.ru_utime + each.ru_stime for each in found)

    before = used()
    work()
    return used() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=["resnet20"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=128)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.names:
        size = 28 if name.startswith("lenet") else 32
        plain = passes(name, size, arguments.batch, False)
        ours = passes(name, size, arguments.batch, True)
        cost = compilation(ours)
        plain()
        turns = [(seconds(plain), seconds(ours)) for _ in range(arguments.rounds)]
        ratios = [theirs / mine for theirs, mine in turns]
        saved = statistics.median(theirs - mine for theirs, mine in turns)
        back = f"paid back after {cost / saved:,.0f} steps" if saved > 0 else "never paid back"
        eager = 1e3 * statistics.median(theirs for theirs, _ in turns)
        print(
            f"{name:<12} {statistics.median(ratios):5.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f}), "
            f"{eager:.0f} ms uncompiled, {cost:.0f} s to compile, {back}",
            flush=True,
        )


if __name__ == "__main__":
    main()
