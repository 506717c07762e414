"""Trainings of equal shape as one stacked network, against one of them, and against all of them in turn.

A step is an optimiser step as in a run: gathering and augmenting the batch, forward, backward, update, masks; on CUDA,
captured as a graph. Both variants alternate. Printed are the minimum time of a step, and the median and the range of
the rounds' ratios. On a CPU, times are CPU times of one thread; on CUDA, wall times until the device is done.

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

#: By network: image channels, pixels per side, batch size, augmentations.
CASES: dict[str, tuple[int, int, int, tuple[str, ...]]] = {
    "resnet20": (3, 32, 128, ("crop", "flip")),
    "lenet-300-100": (1, 28, 60, ()),
}


def make_jobs(name: str, count: int, images: Dataset, recipe: Recipe) -> list[TrainingJob]:
    """Jobs of `count` networks, each with 20% of its weights masked."""
    jobs = []
    for seed in range(count):
        model = models.create(name, classes=10, shape=images.shape, seed=seed)
        draw = torch.Generator().manual_seed(seed)
        masks = {key: torch.rand(p.shape, generator=draw) < 0.8 for key, p in model.named_parameters() if p.dim() > 1}
        jobs.append(TrainingJob(model=model, data=images, recipe=recipe, seed=seed, masks=masks))
    return jobs


def seconds(work: Callable[[], None], device: torch.device) -> float:
    """The time of one step, in seconds."""
    clock = time.thread_time if device.type == "cpu" else time.perf_counter
    start = clock()
    work()
    return (clock() - start) / (STEPS_PER_SYNC if device.type == "cuda" else 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(CASES), metavar="NAME", help="networks (default: all)")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--together", type=int, nargs="+", default=[2, 4, 8, 16], metavar="N", help="numbers of networks to stack"
    )
    parser.add_argument("--rounds", type=int, default=7, help="number of rounds (default: %(default)s)")
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
        images = datasets.load("synthetic", options=options)
        recipe = Recipe(
            length="10ep", lr=0.1, batch=batch, decay=1e-4, augment=augment, precision=arguments.precision
        )  # fmt: skip
        for count in arguments.together:
            jobs = make_jobs(name, count, images, recipe)
            obstacle = stacking_obstacle(jobs, InMemoryChoices(), device)
            assert obstacle is None, obstacle
            stacked_steps, single_steps = make_step_benchmark(jobs, device), make_step_benchmark(jobs[:1], device)
            turns = [
                (seconds(stacked_steps, device), seconds(single_steps, device)) for _ in range(arguments.rounds + 1)
            ][1:]
            ratios = sorted(stacked / single for stacked, single in turns)
            gain = count / statistics.median(ratios)
            print(
                f"{name:<14} {count:>3} stacked: {1e3 * min(stacked for stacked, _ in turns):9.2f} ms per step, "
                f"{statistics.median(ratios):6.2f} times as long as one alone ({ratios[0]:.2f} to {ratios[-1]:.2f}), "
                f"{gain:5.2f} times as fast as {count} in turn",
                flush=True,
            )


if __name__ == "__main__":
    main()
