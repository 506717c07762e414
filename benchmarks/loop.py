"""Our training step beside a bare hand-written one over the same tensors: ratios, never absolute claims.

Both sides take turns in one process; each turn's figure is the median of its steps; printed are the median and
the range of the turns' ratios. `python benchmarks/loop.py [--rounds N] [--steps N] [--device cuda]`
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tickdsl.training import data, devices, loop, models
from tickdsl.training.data import Dataset
from tickdsl.training.recipes import Recipe


@attrs.frozen
class Case:
    """One network on one data set at one batch size."""

    model: str
    data: str
    options: dict[str, int]
    batch: int
    masked: bool = False


_MNIST_SHAPED = {"channels": 1, "size": 28, "train": 6000, "test": 100}
CASES = (
    Case("small-cnn", "digits", {}, 64),
    Case("small-cnn", "digits", {}, 64, masked=True),
    Case("lenet-300-100", "synthetic", _MNIST_SHAPED, 60),
    Case("lenet-300-100", "synthetic", _MNIST_SHAPED, 60, masked=True),
    Case("lenet-300-100", "synthetic", _MNIST_SHAPED, 512),
    Case("resnet20", "synthetic", {"train": 1280, "test": 100}, 128),
)
LAYOUTS = (("small-cnn", 8, 64), ("resnet20", 32, 64), ("vgg11", 32, 64), ("conv4", 32, 64), ("lenet5", 28, 64))


class Network:
    """A network in the layout that the loop would give it, its masks, and where it computes."""

    def __init__(self, case: Case, images: Dataset, device: torch.device) -> None:
        self.model = models.create(case.model, classes=images.classes, shape=images.shape, seed=0).to(device)
        self.masks = (
            {name: p.detach() > 0 for name, p in self.model.named_parameters() if p.dim() > 1} if case.masked else {}
        )
        self.device = device


def ours(network: Network, images: Dataset, recipe: Recipe, steps: int) -> list[float]:
    """Seconds of each step of ours, evaluation left out."""
    ticks: list[float] = []

    def between() -> None:
        _wait(network.device)
        ticks.append(time.perf_counter())

    loop.train(
        network.model, images, recipe, seed=0, stop=steps, masks=network.masks, device=network.device,
        between=between,
    )  # fmt: skip
    return _steps(ticks, -(-len(images.train_labels) // recipe.batch))


def bare(network: Network, images: Dataset, recipe: Recipe, steps: int) -> list[float]:
    """Seconds of each step of the shortest loop that does the same work with the same tensors."""
    device, model = network.device, network.model.train()
    devices.set_memory_format(model, devices.fitting_memory_format(model, device, None))
    pictures, labels = images.train_images.to(device), images.train_labels.to(device)
    mean = (images.mean * 255).view(1, -1, 1, 1).to(device)
    scale = 1 / (images.std * 255).view(1, -1, 1, 1).to(device)
    optimizer = torch.optim.SGD(model.parameters(), recipe.lr, recipe.momentum, fused=True)
    parameters = dict(model.named_parameters())
    masked: list[Tensor] = [parameters[name] for name in network.masks]
    kept = [mask.to(torch.float32) for mask in network.masks.values()]
    total = torch.zeros((), dtype=torch.float64, device=device)
    ticks: list[float] = []
    per_epoch = -(-len(labels) // recipe.batch)
    for step in range(steps):
        _wait(device)
        ticks.append(time.perf_counter())
        if step % per_epoch == 0:
            order = torch.randperm(len(labels)).to(device)
        chosen = order[step % per_epoch * recipe.batch :][: recipe.batch]
        x = pictures.index_select(0, chosen).float().sub_(mean).mul_(scale)
        loss = F.cross_entropy(model(x), labels.index_select(0, chosen))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        if masked:
            with torch.no_grad():
                torch._foreach_mul_(masked, kept)
        total.add_(loss.detach(), alpha=len(chosen))
    return _steps(ticks, per_epoch)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _steps(ticks: list[float], per_epoch: int) -> list[float]:
    """The times between ticks, without those in which an epoch began or ended, and without the first."""
    return [
        after - before
        for step, (before, after) in enumerate(pairwise(ticks))
        if step % per_epoch not in (0, per_epoch - 1)
    ]


def ratios(one: Callable[[], list[float]], other: Callable[[], list[float]], rounds: int) -> tuple[list[float], float]:
    """Ratio of the median step of `one` to that of `other`, a round; and the other's median in milliseconds."""
    one(), other()
    found, seconds = [], []
    for turn in range(rounds):
        sides = [one, other] if turn % 2 else [other, one]
        medians = {side: statistics.median(side()) for side in sides}
        found.append(medians[one] / medians[other])
        seconds.append(medians[other])
    return sorted(found), statistics.median(seconds) * 1e3


def _row(what: str, found: list[float], milliseconds: float) -> None:
    middle = statistics.median(found)
    print(f"| {what} | {middle:.3f} | {found[0]:.3f} to {found[-1]:.3f} | {milliseconds:.2f} |", flush=True)


def _loops(rounds: int, steps: int, device: torch.device) -> None:
    print("| ours / bare | ratio | range | bare, ms a step |\n|---|---|---|---|")
    for case in CASES:
        images = data.load(case.data, options=case.options)
        length = min(steps, 12) if case.model == "resnet20" and device.type == "cpu" else steps
        recipe = Recipe(length=f"{length}it", lr=0.01, batch=case.batch)
        network = Network(case, images, device)
        found, milliseconds = ratios(
            partial(ours, network, images, recipe, length),
            partial(bare, network, images, recipe, length),
            rounds,
        )
        label = f"{case.model} on {case.data}, batch {case.batch}{', masked' if case.masked else ''}"
        _row(label, found, milliseconds)


def _layouts(rounds: int) -> None:
    print("\n| channels_last / contiguous, forward and backward | ratio | range | contiguous, ms |\n|---|---|---|---|")
    for name, side, batch in LAYOUTS:
        x = torch.randn(batch, 3, side, side)
        formats = torch.channels_last, torch.contiguous_format
        sides = [_forward_backward(name, x, wanted) for wanted in formats]
        found, milliseconds = ratios(sides[0], sides[1], rounds)
        _row(f"{name}, {side}x{side}, batch {batch}", found, milliseconds)


def _forward_backward(name: str, x: Tensor, wanted: torch.memory_format) -> Callable[[], list[float]]:
    model: nn.Module = models.create(name, classes=10, shape=(3, x.shape[2], x.shape[3]), seed=0)
    devices.set_memory_format(model, wanted)

    def turn() -> list[float]:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            torch.autograd.backward(model(x).logsumexp(1).sum())
            times.append(time.perf_counter() - start)
        return times

    return turn


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args()
    devices.use_threads(chosen.threads)
    device = devices.pick(chosen.device)
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} thread, {chosen.rounds} rounds\n")
    _loops(chosen.rounds, chosen.steps, device)
    if device.type == "cpu":
        _layouts(chosen.rounds)


if __name__ == "__main__":
    main()
