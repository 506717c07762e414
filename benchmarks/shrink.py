"""Half of all filters removed: training and running the small network beside the masked one of the same filters.

Both sides take turns in one process on one thread; each turn's figure is the least CPU time of its steps, or of some
forward passes; printed are the median and the range of the turns' ratios. The masked side is the dense network with the
removed filters' weights at zero, held there by our own masks. Bytes are counted, not timed.
`python benchmarks/shrink.py [--rounds N] [--steps N] [NAME ...]`
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import attrs
import torch
from loop import Network, bare
from torch import Tensor

from tickdsl.graph.costs import cost
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact
from tickdsl.graph.tracing.trace import trace
from tickdsl.metrics.memory import measure_memory
from tickdsl.pruning.criteria import ScoringContext
from tickdsl.pruning.selection import prune, remaining_positions
from tickdsl.training import devices, loop, models
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.recipes.recipe import Recipe

#: Network -> pictures a step. What VGG-16 takes per picture changes little with their number.
BATCHES = {"resnet20": 128, "vgg16": 32}
SHAPE = (3, 32, 32)


def sides(name: str) -> tuple[Network, Network]:
    """The masked network and the small one: of every group of filters the half with the greater L1 norms."""
    dense = models.create(name, classes=10, shape=SHAPE, seed=0)
    graph = trace(dense, (torch.zeros(2, *SHAPE),))
    whole = Structure.dense(graph)
    subject = ScoringContext(graph, whole, dense.state_dict())
    left = prune(subject, {"unit": "filters", "scope": "local", "by": "l1", "share": 0.5})
    masks = {}
    for weight, info in graph.weights.items():
        masks[weight] = torch.zeros(info.shape, dtype=torch.bool)
        masks[weight].view(-1)[torch.from_numpy(remaining_positions(graph, left, weight))] = True
    print(
        f"{name}: {int(cost(graph, whole).macs) / int(cost(graph, left).macs):.2f} times fewer multiply-adds",
        flush=True,
    )
    small = compact(dense, graph, left)
    with torch.no_grad():
        for weight, mask in masks.items():
            dense.get_parameter(weight).mul_(mask)
    return Network(dense, masks), Network(small, {})


def trained(side: Network, images: Dataset, batch: int, steps: int) -> float:
    """CPU seconds of the fastest step."""
    ticks: list[float] = []
    recipe = Recipe(length=f"{steps}it", lr=0.01, batch=batch, momentum=0.9, decay=5e-4)
    loop.train(
        copy.deepcopy(side.model), images, recipe, seed=0, masks=side.masks,
        before_step=lambda: ticks.append(time.process_time()),
    )  # fmt: skip
    return min(after - before for before, after in pairwise(ticks))


def by_hand(side: Network, images: Dataset, batch: int, steps: int) -> float:
    """CPU seconds of the fastest step of the bare loop: what shrinking gains on this machine at best."""
    recipe = Recipe(length=f"{steps}it", lr=0.01, batch=batch, momentum=0.9)
    return min(bare(attrs.evolve(side, model=copy.deepcopy(side.model)), images, recipe, steps))


def asked(side: Network, pictures: Tensor) -> float:
    """CPU seconds of the fastest of some forward passes."""
    model, times = side.model.eval(), []
    with torch.inference_mode():
        for _ in range(8):
            began = time.process_time()
            model(pictures)
            times.append(time.process_time() - began)
    return min(times)


def measure(name: str, rounds: int, steps: int) -> None:
    """Print the ratios of one network."""
    batch = BATCHES[name]
    # An epoch is one step more than is taken: no tick lies around a test.
    images = datasets.load("synthetic", options={"size": 32, "train": batch * (steps + 1), "test": 2})
    masked, small = sides(name)
    print("| what | median ratio | range |\n|---|---|---|")
    pictures = torch.randn(batch, *SHAPE)
    tries: dict[str, Callable[[Network], float]] = {
        f"retraining, batch {batch}": lambda side: trained(side, images, batch, steps),
        "by the bare loop": lambda side: by_hand(side, images, batch, steps),
        "latency, 1 picture": lambda side: asked(side, pictures[:1]),
        f"latency, {batch} pictures": lambda side: asked(side, pictures),
    }
    for what, seconds in tries.items():
        ratios = []
        for turn in range(rounds):
            found = {id(side): seconds(side) for side in ((masked, small) if turn % 2 else (small, masked))}
            ratios.append(found[id(masked)] / found[id(small)])
        print(f"| {what} | {statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} |", flush=True)
    recipe = Recipe(length="1it", batch=batch, momentum=0.9)
    small_bytes, masked_bytes = (
        measure_memory(copy.deepcopy(side.model), pictures, recipe, device=torch.device("cpu"))
        for side in (small, masked)
    )
    for what in ("memory.parameters", "memory", "memory.training"):
        of = masked_bytes[what], small_bytes[what]
        print(f"| {what}, batch {batch} | {of[0] / of[1]:.2f} | {of[0]:,} and {of[1]:,} bytes |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(BATCHES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    chosen = parser.parse_args()
    devices.use_threads(1)
    print(f"torch {torch.__version__}, 1 thread, {chosen.rounds} rounds\n")
    for name in chosen.names:
        measure(name, chosen.rounds, chosen.steps)


if __name__ == "__main__":
    main()
