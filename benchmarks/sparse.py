"""Training and inference of linear layers with few weights left: sparse matrix products against masked dense layers.

Both variants alternate in one process, with the same images and masks; which layers are sparse is decided by measuring,
as in every training. A round's time is the minimum CPU time of its steps. Printed are the median and the range of the
rounds' ratios, the number of sparse layers, and the largest difference between the final weights.

    python benchmarks/sparse.py [--rounds N] [--steps N] [--threads N]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import attrs
import torch
from torch import Tensor, nn

from tickdsl.plurals import plural
from tickdsl.training import devices, loop
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.measured_choices import InMemoryChoices, MeasuredChoices
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.step.sparse_layers import SparseLayers


@attrs.frozen
class Case:
    """A multilayer perceptron with these widths, and its batch size."""

    widths: tuple[int, ...]
    batch: int

    def network(self) -> nn.Module:
        """Build the network."""
        torch.manual_seed(0)
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise(self.widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    def masks(self, density: float) -> dict[str, Tensor]:
        """Random masks that keep the share `density` of each layer's weights, except for the last layer."""
        draw = torch.Generator().manual_seed(1)
        shapes = {name: p.shape for name, p in self.network().named_parameters() if p.dim() > 1}
        *hidden, _ = shapes
        return {name: torch.rand(shapes[name], generator=draw) < density for name in hidden}


CASES = (
    Case((784, 300, 100, 10), 60),
    Case((784, 300, 100, 10), 512),
    Case((784, 512, 512, 10), 128),
    Case((784, 4096, 512, 10), 128),
)
_MEASURED_CHOICES = InMemoryChoices()
DENSITIES = (0.1, 0.05, 0.02, 0.01)


class Never:
    """Answers every question with no, so that no layer is sparse."""

    def settle(self, question: str, measure: Callable[[], bool]) -> bool:
        return False


@attrs.frozen
class TrainResult:
    """CPU seconds of the fastest step, the train_case network, and the names of its sparse layers."""

    seconds: float
    network: nn.Module
    sparse: tuple[str, ...]


def train_case(
    case: Case, masks: dict[str, Tensor], images: Dataset, steps: int, choices: MeasuredChoices
) -> TrainResult:
    """Train a new network with tickdsl's loop."""
    ticks: list[float] = []
    network = case.network()
    recipe = Recipe(length=f"{steps}it", lr=0.01, batch=case.batch, momentum=0.9, decay=1e-4)
    history = loop.train(
        network, images, recipe, seed=0, masks=masks, choices=choices,
        before_step=lambda: ticks.append(time.process_time()),
    )  # fmt: skip
    return TrainResult(min(after - before for before, after in pairwise(ticks)), network, history.sparse)


def inference_seconds(network: nn.Module, inputs: Tensor) -> float:
    """CPU seconds of the fastest of five forward passes."""
    times = []
    with torch.no_grad():
        for _ in range(5):
            start = time.process_time()
            network(inputs)
            times.append(time.process_time() - start)
    return min(times)


def measure(case: Case, density: float, rounds: int, steps: int) -> None:
    """Print a row: the speedups of training and inference."""
    images = datasets.load("synthetic", options={"channels": 1, "size": 28, "train": 4 * case.batch, "test": 8})
    masks = case.masks(density)
    inputs = torch.randn(case.batch, 784)
    training_ratios, inference_ratios = [], []
    for turn in range(rounds + 1):
        alternatives: list[MeasuredChoices] = [Never(), _MEASURED_CHOICES][:: 1 if turn % 2 else -1]
        results = {type(choices): train_case(case, masks, images, steps, choices) for choices in alternatives}
        dense, sparse = results[Never], results[InMemoryChoices]
        sparse_layers = SparseLayers(sparse.network, masks, sparse.sparse)
        forward = inference_seconds(dense.network, inputs) / inference_seconds(sparse.network, inputs)
        sparse_layers.restore_dense()
        if turn:  # the first round is a warm-up
            training_ratios.append(dense.seconds / sparse.seconds)
            inference_ratios.append(forward)
    difference = max(
        float((a - b).abs().max())
        for a, b in zip(dense.network.state_dict().values(), sparse.network.state_dict().values(), strict=True)
    )
    name = "-".join(map(str, case.widths))
    ratios = f"{_spread(training_ratios)} | {_spread(inference_ratios)}"
    figures = f"{len(sparse.sparse)} of {len(masks)} | {ratios} | {difference:.0e}"
    print(f"| {name}, batch {case.batch} | {density:.0%} | {figures} |", flush=True)


def _spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    devices.use_threads(arguments.threads)
    threads = plural(torch.get_num_threads(), "thread")
    print(f"torch {torch.__version__}, {threads}, {plural(arguments.rounds, 'round')}\n")
    print(
        "| network | weights left | sparse layers | training speedup | inference speedup | difference |\n"
        + 6 * "|---"
        + "|"
    )
    for case in CASES:
        for density in DENSITIES:
            measure(case, density, arguments.rounds, arguments.steps)


if __name__ == "__main__":
    main()
