"""Training and inference of a network with half of its filters removed, against one with the same filters masked.

Both networks alternate in one process, on one thread. A round's time is the minimum CPU time of its steps or forward
passes. Printed are the median and the range of the rounds' ratios, and the ratio of memory in bytes. The masked network
is the dense one with the removed filters' weights kept at zero by tickdsl's masks.

    python benchmarks/shrink.py [--rounds N] [--steps N] [NAME …]
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
from loop import Network, bare_loop
from torch import Tensor

from tickdsl.graph.costs import cost
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact
from tickdsl.graph.tracing.trace import trace
from tickdsl.metrics.memory import measure_memory
from tickdsl.plurals import plural
from tickdsl.pruning.criteria import ScoringContext
from tickdsl.pruning.selection import prune, remaining_positions
from tickdsl.training import devices, loop, models
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.recipes.recipe import Recipe

#: Batch sizes by network. VGG-16's time per image hardly depends on it.
BATCHES = {"resnet20": 128, "vgg16": 32}
SHAPE = (3, 32, 32)


def build_networks(name: str) -> tuple[Network, Network]:
    """The masked and the small network, which keep the half of each group's filters with the larger L1 norms."""
    dense = models.create(name, classes=10, shape=SHAPE, seed=0)
    graph = trace(dense, (torch.zeros(2, *SHAPE),))
    whole = Structure.dense(graph)
    subject = ScoringContext(graph, whole, dense.state_dict())
    kept = prune(subject, {"unit": "filters", "scope": "local", "by": "l1", "share": 0.5})
    masks = {}
    for weight, info in graph.weights.items():
        masks[weight] = torch.zeros(info.shape, dtype=torch.bool)
        masks[weight].view(-1)[torch.from_numpy(remaining_positions(graph, kept, weight))] = True
    print(
        f"{name}: {int(cost(graph, whole).macs) / int(cost(graph, kept).macs):.2f} times fewer multiply-adds",
        flush=True,
    )
    small = compact(dense, graph, kept)
    with torch.no_grad():
        for weight, mask in masks.items():
            dense.get_parameter(weight).mul_(mask)
    return Network(dense, masks), Network(small, {})


def training_seconds(side: Network, images: Dataset, batch: int, steps: int) -> float:
    """CPU seconds of the fastest step."""
    ticks: list[float] = []
    recipe = Recipe(length=f"{steps}it", lr=0.01, batch=batch, momentum=0.9, decay=5e-4)
    loop.train(
        copy.deepcopy(side.model), images, recipe, seed=0, masks=side.masks,
        before_step=lambda: ticks.append(time.process_time()),
    )  # fmt: skip
    return min(after - before for before, after in pairwise(ticks))


def bare_loop_seconds(side: Network, images: Dataset, batch: int, steps: int) -> float:
    """CPU seconds of the fastest step of the bare loop, which shows the best possible gain on this machine."""
    recipe = Recipe(length=f"{steps}it", lr=0.01, batch=batch, momentum=0.9)
    return min(bare_loop(attrs.evolve(side, model=copy.deepcopy(side.model)), images, recipe, steps))


def inference_seconds(side: Network, inputs: Tensor) -> float:
    """CPU seconds of the fastest of eight forward passes."""
    model, times = side.model.eval(), []
    with torch.inference_mode():
        for _ in range(8):
            start = time.process_time()
            model(inputs)
            times.append(time.process_time() - start)
    return min(times)


def measure(name: str, rounds: int, steps: int) -> None:
    """Print the ratios of one network."""
    batch = BATCHES[name]
    # An epoch is one step longer than the training, so that no test is timed.
    images = datasets.load("synthetic", options={"size": 32, "train": batch * (steps + 1), "test": 2})
    masked, small = build_networks(name)
    print("| | median ratio | range |\n|---|---|---|")
    inputs = torch.randn(batch, *SHAPE)
    timings: dict[str, Callable[[Network], float]] = {
        f"retraining, batch {batch}": lambda side: training_seconds(side, images, batch, steps),
        "retraining, bare loop": lambda side: bare_loop_seconds(side, images, batch, steps),
        "latency, 1 image": lambda side: inference_seconds(side, inputs[:1]),
        f"latency, {batch} images": lambda side: inference_seconds(side, inputs),
    }
    for label, seconds in timings.items():
        ratios = []
        for turn in range(rounds):
            seconds_by_network = {
                id(side): seconds(side) for side in ((masked, small) if turn % 2 else (small, masked))
            }
            ratios.append(seconds_by_network[id(masked)] / seconds_by_network[id(small)])
        print(f"| {label} | {statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} |", flush=True)
    recipe = Recipe(length="1it", batch=batch, momentum=0.9)
    small_bytes, masked_bytes = (
        measure_memory(copy.deepcopy(side.model), inputs, recipe, device=torch.device("cpu"))
        for side in (small, masked)
    )
    for metric in ("memory.parameters", "memory", "memory.training"):
        before, after = masked_bytes[metric], small_bytes[metric]
        print(f"| {metric}, batch {batch} | {before / after:.2f} | {before:,} and {after:,} bytes |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(BATCHES))
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=8)
    arguments = parser.parse_args()
    devices.use_threads(1)
    print(f"torch {torch.__version__}, 1 thread, {plural(arguments.rounds, 'round')}\n")
    for name in arguments.names:
        measure(name, arguments.rounds, arguments.steps)


if __name__ == "__main__":
    main()
