"""Training and inference of linear layers of which little is left: sparse products beside the masked dense layer.

Both sides take turns in one process, on the same pictures with the same masks; which layers are sparse is measured, as
in every training. Each turn's figure is the least CPU time of its steps; printed are the median and the range of the
turns' ratios, the layers chosen, and how far apart the weights end.
`python benchmarks/sparse.py [--rounds N] [--steps N] [--threads N]`
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

from tickdsl.training import devices, loop
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.measured_choices import InMemoryChoices, MeasuredChoices
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.step.sparse_layers import SparseLayers


@attrs.frozen
class Case:
    """A perceptron with these widths, at this many pictures a step."""

    widths: tuple[int, ...]
    batch: int

    def network(self) -> nn.Module:
        """Its layers, all prunable but the last."""
        torch.manual_seed(0)
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise(self.widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    def masks(self, density: float) -> dict[str, Tensor]:
        """`density` of each layer's weights, all of the last layer's."""
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
_MEASURED = InMemoryChoices()
DENSITIES = (0.1, 0.05, 0.02, 0.01)


class Never:
    """No layer is sparse."""

    def settle(self, question: str, measure: Callable[[], bool]) -> bool:
        return False


@attrs.frozen
class Trained:
    """CPU seconds of the fastest step of our loop, the network afterwards, and its layers that were sparse."""

    seconds: float
    network: nn.Module
    sparse: tuple[str, ...]


def trained(case: Case, masks: dict[str, Tensor], images: Dataset, steps: int, choices: MeasuredChoices) -> Trained:
    """Train a new network."""
    ticks: list[float] = []
    network = case.network()
    recipe = Recipe(length=f"{steps}it", lr=0.01, batch=case.batch, momentum=0.9, decay=1e-4)
    history = loop.train(
        network, images, recipe, seed=0, masks=masks, choices=choices,
        before_step=lambda: ticks.append(time.process_time()),
    )  # fmt: skip
    return Trained(min(after - before for before, after in pairwise(ticks)), network, history.sparse)


def asked(network: nn.Module, pictures: Tensor) -> float:
    """CPU seconds of the fastest of some forward passes."""
    times = []
    with torch.no_grad():
        for _ in range(5):
            began = time.process_time()
            network(pictures)
            times.append(time.process_time() - began)
    return min(times)


def measure(case: Case, density: float, rounds: int, steps: int) -> None:
    """Print a line: how many times faster training and asking are."""
    images = datasets.load("synthetic", options={"channels": 1, "size": 28, "train": 4 * case.batch, "test": 8})
    masks = case.masks(density)
    pictures = torch.randn(case.batch, 784)
    training, asking = [], []
    for turn in range(rounds + 1):
        sides: list[MeasuredChoices] = [Never(), _MEASURED][:: 1 if turn % 2 else -1]
        found = {type(choices): trained(case, masks, images, steps, choices) for choices in sides}
        dense, sparse = found[Never], found[InMemoryChoices]
        put_in = SparseLayers(sparse.network, masks, sparse.sparse)
        forward = asked(dense.network, pictures) / asked(sparse.network, pictures)
        put_in.restore_dense()
        if turn:  # the first warms up
            training.append(dense.seconds / sparse.seconds)
            asking.append(forward)
    apart = max(
        float((a - b).abs().max())
        for a, b in zip(dense.network.state_dict().values(), sparse.network.state_dict().values(), strict=True)
    )
    name = "-".join(map(str, case.widths))
    figures = f"{len(sparse.sparse)} of {len(masks)} | {_spread(training)} | {_spread(asking)} | {apart:.0e}"
    print(f"| {name}, batch {case.batch} | {density:.0%} | {figures} |", flush=True)


def _spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    devices.use_threads(chosen.threads)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread, {chosen.rounds} rounds\n")
    print(
        "| network | weights left | sparse layers | training, times faster | inference | apart |\n" + 6 * "|---" + "|"
    )
    for case in CASES:
        for density in DENSITIES:
            measure(case, density, chosen.rounds, chosen.steps)


if __name__ == "__main__":
    main()
