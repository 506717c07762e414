"""Our training step beside a bare hand-written one over the same tensors, and beside the common script.

Both sides take turns in one process; each turn's figure is that of its fastest step, in CPU time on a CPU; printed are
the median and the range of the turns' ratios. Ours tells and writes its events as under `tickdsl run`, and measures
what it always measures. `python benchmarks/loop.py [--rounds N] [--steps N] [--data FOLDER] [--device cuda] [TABLE …]`
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import PIL.Image
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tickdsl.records import EventWriter
from tickdsl.records.events import StepProgress
from tickdsl.training import devices, loop, models
from tickdsl.training.checkpoints import Checkpointer
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.history import EpochReport
from tickdsl.training.recipes.recipe import Recipe, steps_per_epoch
from tickdsl.training.torchvision_import import import_torchvision


@attrs.frozen
class Case:
    """One network on one data set at one batch size."""

    model: str
    data: str
    options: dict[str, int]
    batch: int
    masked: bool = False

    steps: int | None = None


_MNIST_SHAPED = {"channels": 1, "size": 28, "train": 6000, "test": 100}
_CIFAR_SHAPED = {"train": 1280, "test": 100}
CASES = (
    Case("small-cnn", "digits", {}, 64),
    Case("small-cnn", "digits", {}, 64, masked=True),
    Case("lenet-300-100", "synthetic", _MNIST_SHAPED, 60),
    Case("lenet-300-100", "synthetic", _MNIST_SHAPED, 60, masked=True),
    Case("lenet-300-100", "synthetic", _MNIST_SHAPED, 512),
    Case("lenet-300-100", "synthetic", _MNIST_SHAPED, 512, masked=True),
    Case("resnet20", "synthetic", _CIFAR_SHAPED, 128, steps=9),
    Case("resnet20", "synthetic", _CIFAR_SHAPED, 128, masked=True, steps=9),
    Case("vgg16", "synthetic", _CIFAR_SHAPED, 128, steps=4),
    Case("vgg16", "synthetic", _CIFAR_SHAPED, 128, masked=True, steps=4),
)
#: Steps on CUDA between two waits for it.
BLOCK = 10
Side = Callable[["Network", Dataset, Recipe, int], list[float]]
LAYOUTS = (("small-cnn", 8, 64), ("resnet20", 32, 64), ("vgg11", 32, 64), ("conv4", 32, 64), ("lenet5", 28, 64))


@attrs.frozen
class Network:
    """A network, its masks (True: kept), and where it computes."""

    model: nn.Module
    masks: dict[str, Tensor]
    device: torch.device = torch.device("cpu")


def network(case: Case, images: Dataset, device: torch.device) -> Network:
    """A case's network."""
    model = models.create(case.model, classes=images.classes, shape=images.shape, seed=0).to(device)
    weights = {name: p for name, p in model.named_parameters() if p.dim() > 1} if case.masked else {}
    return Network(model, {name: weight.detach() > 0 for name, weight in weights.items()}, device)


def ours(network: Network, images: Dataset, recipe: Recipe, steps: int) -> list[float]:
    """Seconds of each step of ours, evaluation left out; every epoch's figures are written to an event file."""
    ticks = Ticks(network.device, steps_per_epoch(len(images.train_labels), recipe.batch))

    with tempfile.TemporaryDirectory() as folder, EventWriter(Path(folder) / "events.jsonl") as events:

        def tell(report: EpochReport) -> None:
            events.write(
                StepProgress(
                    step="train", epoch=report.epoch, epochs=report.epochs, loss=report.train_loss,
                    accuracy=report.test_accuracy, lr=report.lr,
                )
            )  # fmt: skip

        loop.train(
            network.model, images, recipe, seed=0, stop=steps, masks=network.masks, device=network.device,
            before_step=ticks, on_epoch=tell, checkpoint=Checkpointer(folder),
        )  # fmt: skip
    return ticks.steps()


def bare(network: Network, images: Dataset, recipe: Recipe, steps: int) -> list[float]:
    """Seconds of each step of the shortest loop that does the same work with the same tensors."""
    device, (model, precision) = network.device, _ready(network, recipe)
    pictures, labels = images.train_images.to(device), images.train_labels.to(device)
    mean = (images.mean * 255).view(1, -1, 1, 1).to(device)
    scale = 1 / (images.std * 255).view(1, -1, 1, 1).to(device)
    optimizer = torch.optim.SGD(model.parameters(), recipe.lr, recipe.momentum, fused=True)
    parameters = dict(model.named_parameters())
    masked: list[Tensor] = [parameters[name] for name in network.masks]
    kept = [mask.to(torch.float32) for mask in network.masks.values()]
    total = torch.zeros((), dtype=torch.float64, device=device)
    per_epoch = steps_per_epoch(len(labels), recipe.batch)
    ticks = Ticks(device, per_epoch)
    for step in range(steps):
        ticks()
        if step % per_epoch == 0:
            order = torch.randperm(len(labels)).to(device)
        chosen = order[step % per_epoch * recipe.batch :][: recipe.batch]
        x = pictures.index_select(0, chosen).float().sub_(mean).mul_(scale)
        with precision():
            loss = F.cross_entropy(model(x), labels.index_select(0, chosen))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        if masked:
            with torch.no_grad():
                torch._foreach_mul_(masked, kept)
        total.add_(loss.detach(), alpha=len(chosen))
    return ticks.steps()


def script(network: Network, images: Dataset, recipe: Recipe, steps: int) -> list[float]:
    """Seconds of each step of the script that most people write: a DataLoader of PIL pictures through transforms, plain
    SGD, a walk over the masks, loss and accuracy asked for at every step.
    """
    transforms = import_torchvision().transforms
    changed = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize(images.mean.tolist(), images.std.tolist())]
    )

    class Pictures(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return len(images.train_labels)

        def __getitem__(self, index: int) -> Any:
            picture = PIL.Image.fromarray(images.train_images[index, 0].numpy(), mode="L")
            return changed(picture), int(images.train_labels[index])

    loader = torch.utils.data.DataLoader(Pictures(), batch_size=recipe.batch, shuffle=True)
    model, device = network.model.train(), network.device
    optimizer = torch.optim.SGD(model.parameters(), recipe.lr, recipe.momentum)
    ticks, taken = Ticks(device, len(loader)), 0
    losses, right = 0.0, 0
    while taken < steps:
        for x, y in loader:
            ticks()
            x, y = x.to(device), y.to(device)
            optimizer.zero_grad()
            scores = model(x)
            loss = F.cross_entropy(scores, y)
            loss.backward()
            optimizer.step()
            for name, parameter in model.named_parameters():
                if name in network.masks:
                    parameter.data *= network.masks[name]
            losses += loss.item()
            right += (scores.argmax(1) == y).sum().item()
            taken += 1
            if taken == steps:
                break
    return ticks.steps()


def still(network: Network, images: Dataset, recipe: Recipe, steps: int) -> list[float]:
    """Seconds of each step on one batch that lies ready: forward, backward and optimiser, which no loop can save."""
    device, (model, precision) = network.device, _ready(network, recipe)
    x = images.train_images[: recipe.batch].to(device).float().div_(255)
    y = images.train_labels[: recipe.batch].to(device)
    optimizer = torch.optim.SGD(model.parameters(), recipe.lr, recipe.momentum, fused=True)
    ticks = Ticks(device, steps_per_epoch(len(images.train_labels), recipe.batch))
    for _ in range(steps):
        ticks()
        optimizer.zero_grad()
        with precision():
            loss = F.cross_entropy(model(x), y)
        torch.autograd.backward(loss)
        optimizer.step()
    return ticks.steps()


def _ready(network: Network, recipe: Recipe) -> tuple[nn.Module, Callable[[], AbstractContextManager[object]]]:
    """The network laid out in memory as our loop would, and what its forward passes are done in."""
    device, model = network.device, network.model.train()
    autocast = devices.autocast_type(recipe.precision, device)
    devices.set_memory_format(model, devices.preferred_memory_format(model, device, autocast))
    return model, nullcontext if autocast is None else partial(torch.autocast, device.type, autocast)


class Ticks:
    """To be called as each step begins. On a CPU every step's processor time counts; on CUDA the wall time of blocks of
    steps, once the device has finished them, since within one they queue up as they do in a run.
    """

    def __init__(self, device: torch.device, per_epoch: int) -> None:
        self._device, self._per_epoch = device, per_epoch
        self._block = BLOCK if device.type == "cuda" else 1
        self._begun = 0
        self._times: list[float] = []

    def __call__(self) -> None:
        if self._begun % self._block == 0:
            self._times.append(self._now())
        self._begun += 1

    def steps(self) -> list[float]:
        """Seconds a step, without those in which an epoch began or ended, and without the first."""
        found = []
        for place, (before, after) in enumerate(pairwise(self._times)):
            within = range(place * self._block, (place + 1) * self._block)
            if not any(step % self._per_epoch in (0, self._per_epoch - 1) for step in within):
                found.append((after - before) / self._block)
        return found

    def _now(self) -> float:
        if self._device.type != "cuda":
            return time.process_time()
        torch.cuda.synchronize(self._device)
        return time.perf_counter()


def ratios(one: Callable[[], list[float]], other: Callable[[], list[float]], rounds: int) -> tuple[list[float], float]:
    """Ratio of the fastest step of `one` to that of `other`, a round; and the other's in milliseconds."""
    one(), other()
    found, seconds = [], []
    for turn in range(rounds):
        sides = [one, other] if turn % 2 else [other, one]
        fastest = {side: min(side()) for side in sides}
        found.append(fastest[one] / fastest[other])
        seconds.append(fastest[other])
    return sorted(found), statistics.median(seconds) * 1e3


def _row(what: str, found: list[float], milliseconds: float) -> None:
    middle = statistics.median(found)
    print(f"| {what} | {middle:.3f} | {found[0]:.3f} to {found[-1]:.3f} | {milliseconds:.2f} |", flush=True)


def _loops(rounds: int, steps: int, device: torch.device) -> None:
    print("\n| ours / bare | ratio | range | bare, ms a step |\n|---|---|---|---|")
    for case in CASES:
        options = case.options
        if device.type == "cuda" and "train" in options:  # blocks of steps, and long epochs
            options = {**options, "train": 10 * options["train"]}
        images = datasets.load(case.data, options=options)
        length = 10 * steps if device.type == "cuda" else case.steps or steps
        _beside(ours, bare, case, images, length, rounds, device)


def _scripts(rounds: int, steps: int, device: torch.device, root: Path | None) -> None:
    print("\n| times that the script takes longer | ratio | range | ms a step |\n|---|---|---|---|")
    images = datasets.load("synthetic", options=_MNIST_SHAPED) if root is None else datasets.load("mnist", root=root)
    for batch in (60, 512):
        for masked in (False, True):
            case = Case("lenet-300-100", images.name, {}, batch, masked)
            _beside(script, ours, case, images, steps, rounds, device, "than ours: ")
        case = Case("lenet-300-100", images.name, {}, batch)
        _beside(script, still, case, images, steps, rounds, device, "than the network alone: ")


def _beside(
    one: Side, other: Side, case: Case, images: Dataset, steps: int, rounds: int, device: torch.device, words: str = ""
) -> None:
    """Print the ratio of the step of `one` to that of `other`."""
    recipe = Recipe(length=f"{steps}it", lr=0.01, batch=case.batch)
    drawn = network(case, images, device)
    sides = [partial(side, drawn, images, recipe, steps) for side in (one, other)]
    found, milliseconds = ratios(*sides, rounds=rounds)
    masked = ", masked" if case.masked else ""
    _row(f"{words}{case.model} on {case.data}, batch {case.batch}{masked}", found, milliseconds)


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
            start = time.process_time()
            torch.autograd.backward(model(x).logsumexp(1).sum())
            times.append(time.process_time() - start)
        return times

    return turn


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", default=["bare", "script", "layouts"], help="bare, script, layouts")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", type=Path, help="where MNIST lies; without it, pictures of its shape are generated")
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args()
    devices.use_threads(chosen.threads)
    device = devices.resolve_device(chosen.device)
    torch.backends.cudnn.benchmark = True  # for both sides, as in our loop
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} thread, {chosen.rounds} rounds")
    if "bare" in chosen.tables:
        _loops(chosen.rounds, chosen.steps, device)
    if "script" in chosen.tables:
        _scripts(chosen.rounds, min(chosen.steps, 24) if device.type == "cpu" else 10 * BLOCK, device, chosen.data)
    if "layouts" in chosen.tables and device.type == "cpu":
        _layouts(chosen.rounds)


if __name__ == "__main__":
    main()
