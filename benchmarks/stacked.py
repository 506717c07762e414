"""Trainings of equal shape as one stacked network beside one of them, and beside all of them one by one.

A step is an optimiser step as a run takes it: the batch gathered and altered, forward, backward, optimiser, masks; on
CUDA captured as a graph. Sides are taken in turns; printed are the least time of a step and the medians and ranges of
the turns' ratios. On a CPU in processor time of one thread, on CUDA by the wall with the device waited for.

    python benchmarks/stacked.py [NAME …] [--device cpu|cuda] [--together N …] [--rounds N] [--precision fp32|bf16|auto]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from tickdsl.training import models
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.devices import resolve_device
from tickdsl.training.job import TrainingJob
from tickdsl.training.measured_choices import InMemoryChoices
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.stacked.eligibility import STEPS_PER_SYNC, make_step_benchmark, stacking_obstacle

#: Network -> picture channels and side, pictures a step, alterations.
CASES: dict[str, tuple[int, int, int, tuple[str, ...]]] = {
    "resnet20": (3, 32, 128, ("crop", "flip")),
    "lenet-300-100": (1, 28, 60, ()),
}


def assignments(name: str, count: int, pictures: Dataset, recipe: Recipe) -> list[TrainingJob]:
    """So many networks, each with 20 % of its weights masked."""
    found = []
    for seed in range(count):
        model = models.create(name, classes=10, shape=pictures.shape, seed=seed)
        draw = torch.Generator().manual_seed(seed)
        masks = {key: torch.rand(p.shape, generator=draw) < 0.8 for key, p in model.named_parameters() if p.dim() > 1}
        found.append(TrainingJob(model=model, data=pictures, recipe=recipe, seed=seed, masks=masks))
    return found


def seconds(work: Callable[[], None], device: torch.device) -> float:
    """Of one step."""
    clock = time.thread_time if device.type == "cpu" else time.perf_counter
    began = clock()
    work()
    return (clock() - began) / (STEPS_PER_SYNC if device.type == "cuda" else 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(CASES))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--together", type=int, nargs="+", default=[2, 4, 8, 16])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--precision", default="auto")
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    else:
        print(torch.cuda.get_device_name(device))
    for name in arguments.names:
        channels, side, batch, augment = CASES[name]
        options = {"size": side, "channels": channels, "train": 2 * batch, "test": 10, "classes": 10}
        pictures = datasets.load("synthetic", options=options)
        recipe = Recipe(
            length="10ep", lr=0.1, batch=batch, decay=1e-4, augment=augment, precision=arguments.precision
        )  # fmt: skip
        for count in arguments.together:
            given = assignments(name, count, pictures, recipe)
            why = stacking_obstacle(given, InMemoryChoices(), device)
            assert why is None, why
            together, alone = make_step_benchmark(given, device), make_step_benchmark(given[:1], device)
            turns = [(seconds(together, device), seconds(alone, device)) for _ in range(arguments.rounds + 1)][1:]
            ratios = sorted(ours / theirs for ours, theirs in turns)
            gain = count / statistics.median(ratios)
            print(
                f"{name:<14} {count:>3} in one: {1e3 * min(ours for ours, _ in turns):9.2f} ms a step, "
                f"{statistics.median(ratios):6.2f} times as long as one alone ({ratios[0]:.2f} to {ratios[-1]:.2f}), "
                f"{gain:5.2f} times as fast as {count} one by one",
                flush=True,
            )


if __name__ == "__main__":
    main()
