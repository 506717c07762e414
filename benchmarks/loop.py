"""The training step of tickdsl against a bare hand-written one over the same tensors, and a typical script's.

Both loops alternate in one process. A round's time is that of its fastest step, in CPU time on a CPU. Printed are the
median and the range of the rounds' ratios. tickdsl's loop writes events and makes its measured choices as in
`tickdsl run`.

    python benchmarks/loop.py [--rounds N] [--steps N] [--data FOLDER] [--device cuda]
                              [--models NAME …] [TABLE …]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
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

from tickdsl.plurals import plural
from tickdsl.records import EventWriter
from tickdsl.records.events import StepProgress
from tickdsl.training import devices, loop, models
from tickdsl.training.checkpoints import Checkpointer
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.history import EpochReport
from tickdsl.training.memory_layouts import preferred_memory_format, set_memory_format
from tickdsl.training.recipes.recipe import Recipe, steps_per_epoch
from tickdsl.training.sparsifiers.evolving import Evolution
from tickdsl.training.sparsifiers.gradual import GradualPruning
from tickdsl.training.sparsifiers.protocol import ActiveSparsifier, SparseNetwork, Sparsifier
from tickdsl.training.tasks import UNLABELLED
from tickdsl.training.torchvision_import import import_torchvision


@attrs.frozen
class Case:
    """A network, a data set and a batch size. steps: per round, if not the default."""

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
    Case("gpt", "corpus", {"train": 2000}, 32),
    Case("gpt", "corpus", {"train": 2000}, 32, masked=True),
    Case("bert", "sentences", {"train": 2000}, 32),
    Case("unet", "shapes", {"train": 640, "test": 50}, 32, steps=19),
    Case("unet", "shapes", {"train": 640, "test": 50}, 32, masked=True, steps=19),
)
#: Steps on CUDA between two synchronisations.
BLOCK = 10
Loop = Callable[["Network", Dataset, Recipe, int], list[float]]
LAYOUTS = (("small-cnn", 8, 64), ("resnet20", 32, 64), ("vgg11", 32, 64), ("conv4", 32, 64), ("lenet5", 28, 64))


@attrs.frozen
class Network:
    """A network, its masks (True: kept) and its device."""

    model: nn.Module
    masks: dict[str, Tensor]
    device: torch.device = torch.device("cpu")


def network(case: Case, images: Dataset, device: torch.device, left: float = 0.5) -> Network:
    """Build a case's network and masks, which keep about a share `left` of the weights."""
    model = models.create(case.model, classes=images.classes, shape=images.shape, seed=0).to(device)
    weights = {name: p.detach() for name, p in model.named_parameters() if p.dim() > 1} if case.masked else {}
    return Network(model, {name: weight > weight.quantile(1 - left) for name, weight in weights.items()}, device)


def tickdsl_loop(network: Network, images: Dataset, recipe: Recipe, steps: int) -> list[float]:
    """Seconds of each step of tickdsl's loop, without tests; every epoch is written to an event file."""
    ticks = Ticks(network.device, steps_per_epoch(len(images.train_targets), recipe.batch))

    with tempfile.TemporaryDirectory() as folder, EventWriter(Path(folder) / "events.jsonl") as events:

        def write_event(report: EpochReport) -> None:
            events.write(
                StepProgress(
                    step="train", epoch=report.epoch, epochs=report.epochs, loss=report.train_loss,
                    accuracy=report.test_accuracy, lr=report.lr,
                )
            )  # fmt: skip

        loop.train(
            network.model, images, recipe, seed=0, stop=steps, masks=network.masks, device=network.device,
            before_step=ticks, on_epoch=write_event, checkpoint=Checkpointer(folder),
        )  # fmt: skip
    return ticks.steps()


def bare_loop(network: Network, images: Dataset, recipe: Recipe, steps: int) -> list[float]:
    """Seconds of each step of a minimal loop that does the same work with the same tensors."""
    device, (model, precision) = network.device, _ready(network, recipe, images)
    train_inputs, labels = images.train_inputs.to(device), images.train_targets.to(device)
    prepare, loss_of = _by_hand(images, device)
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
        indices = order[step % per_epoch * recipe.batch :][: recipe.batch]
        x = prepare(train_inputs.index_select(0, indices))
        with precision():
            loss = loss_of(model(x), labels.index_select(0, indices))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        if masked:
            with torch.no_grad():
                torch._foreach_mul_(masked, kept)
        total.add_(loss.detach(), alpha=len(indices))
    return ticks.steps()


def _by_hand(images: Dataset, device: torch.device) -> tuple[Callable[[Tensor], Tensor], Callable[..., Tensor]]:
    """What inputs go through before the network, and the loss, as a hand-written loop has them."""
    if images.vocabulary:

        def of_tokens(outputs: Tensor, targets: Tensor) -> Tensor:
            return F.cross_entropy(outputs.flatten(0, -2), targets.flatten().long())

        return Tensor.long, of_tokens
    mean = (images.mean * 255).view(1, -1, 1, 1).to(device)
    scale = 1 / (images.std * 255).view(1, -1, 1, 1).to(device)
    loss = _pixel_loss if images.task.name == "segment" else F.cross_entropy
    return lambda x: x.float().sub_(mean).mul_(scale), loss


def _pixel_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """The cross-entropy of the labelled pixels, as torch has it."""
    return F.cross_entropy(logits, masks.long(), ignore_index=UNLABELLED)


def script_loop(network: Network, images: Dataset, recipe: Recipe, steps: int) -> list[float]:
    """Seconds of each step of a typical script.

    It has a DataLoader with PIL images and transforms, plain SGD, a Python loop over the masks, and reads loss and
    accuracy at every step.
    """
    transforms = import_torchvision().transforms
    transform = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize(images.mean.tolist(), images.std.tolist())]
    )

    class ImageDataset(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return len(images.train_targets)

        def __getitem__(self, index: int) -> Any:
            image = PIL.Image.fromarray(images.train_inputs[index, 0].numpy(), mode="L")
            return transform(image), int(images.train_targets[index])

    loader = torch.utils.data.DataLoader(ImageDataset(), batch_size=recipe.batch, shuffle=True)
    model, device = network.model.train(), network.device
    optimizer = torch.optim.SGD(model.parameters(), recipe.lr, recipe.momentum)
    ticks, taken = Ticks(device, len(loader)), 0
    losses, correct = 0.0, 0
    while taken < steps:
        for x, y in loader:
            ticks()
            x, y = x.to(device), y.to(device)
            optimizer.zero_grad()
            logits = model(x)
            loss = F.cross_entropy(logits, y)
            loss.backward()
            optimizer.step()
            for name, parameter in model.named_parameters():
                if name in network.masks:
                    parameter.data *= network.masks[name]
            losses += loss.item()
            correct += (logits.argmax(1) == y).sum().item()
            taken += 1
            if taken == steps:
                break
    return ticks.steps()


def forward_backward_only(network: Network, images: Dataset, recipe: Recipe, steps: int) -> list[float]:
    """Seconds of each step on one prepared batch: forward, backward and update, which every loop needs."""
    device, (model, precision) = network.device, _ready(network, recipe, images)
    x = images.train_inputs[: recipe.batch].to(device).float().div_(255)
    y = images.train_targets[: recipe.batch].to(device)
    optimizer = torch.optim.SGD(model.parameters(), recipe.lr, recipe.momentum, fused=True)
    ticks = Ticks(device, steps_per_epoch(len(images.train_targets), recipe.batch))
    for _ in range(steps):
        ticks()
        optimizer.zero_grad()
        with precision():
            loss = F.cross_entropy(model(x), y)
        torch.autograd.backward(loss)
        optimizer.step()
    return ticks.steps()


def _ready(
    network: Network, recipe: Recipe, images: Dataset
) -> tuple[nn.Module, Callable[[], AbstractContextManager[object]]]:
    """The network in the memory layout that tickdsl's loop chooses, and its autocast context."""
    device, model = network.device, network.model.train()
    autocast = devices.autocast_type(recipe.precision, device)
    set_memory_format(model, preferred_memory_format(model, device, autocast, images.train_inputs[:2].float()))
    return model, nullcontext if autocast is None else partial(torch.autocast, device.type, autocast)


class Ticks:
    """A timer to call at the start of each step.

    On a CPU, it measures the CPU time of every step; on CUDA, the wall time of blocks of steps until the device is
    done, since steps queue up in a run.
    """

    def __init__(self, device: torch.device, per_epoch: int) -> None:
        self._device, self._per_epoch = device, per_epoch
        self._block = BLOCK if device.type == "cuda" else 1
        self._count = 0
        self._times: list[float] = []

    def __call__(self) -> None:
        if self._count % self._block == 0:
            self._times.append(self._now())
        self._count += 1

    def steps(self) -> list[float]:
        """Seconds per step, without the first and last steps of epochs."""
        measured = []
        for block, (before, after) in enumerate(pairwise(self._times)):
            within = range(block * self._block, (block + 1) * self._block)
            if not any(step % self._per_epoch in (0, self._per_epoch - 1) for step in within):
                measured.append((after - before) / self._block)
        return measured

    def _now(self) -> float:
        if self._device.type != "cuda":
            return time.process_time()
        torch.cuda.synchronize(self._device)
        return time.perf_counter()


def ratios(
    candidate: Callable[[], list[float]], baseline: Callable[[], list[float]], rounds: int
) -> tuple[list[float], float]:
    """The sorted ratios of the fastest steps of `candidate` and `baseline`, one per round, and the baseline in ms."""
    candidate(), baseline()
    measured, seconds = [], []
    for turn in range(rounds):
        loops = [candidate, baseline] if turn % 2 else [baseline, candidate]
        fastest = {side: min(side()) for side in loops}
        measured.append(fastest[candidate] / fastest[baseline])
        seconds.append(fastest[baseline])
    return sorted(measured), statistics.median(seconds) * 1e3


def _row(label: str, measured: list[float], milliseconds: float) -> None:
    middle = statistics.median(measured)
    print(f"| {label} | {middle:.3f} | {measured[0]:.3f} to {measured[-1]:.3f} | {milliseconds:.2f} |", flush=True)


def _loops(rounds: int, steps: int, device: torch.device, names: Sequence[str] | None) -> None:
    print("\n| tickdsl / bare loop | ratio | range | bare loop, ms per step |\n|---|---|---|---|")
    for case in CASES:
        if names and case.model not in names:
            continue
        options = case.options
        if device.type == "cuda" and "train" in options:  # long epochs, for whole blocks of steps
            options = {**options, "train": 10 * options["train"]}
        images = datasets.load(case.data, options=options)
        length = 10 * steps if device.type == "cuda" else case.steps or steps
        _compare(tickdsl_loop, bare_loop, case, images, length, rounds, device)


def _scripts(rounds: int, steps: int, device: torch.device, root: Path | None) -> None:
    print("\n| script / other loop | ratio | range | other loop, ms per step |\n|---|---|---|---|")
    images = datasets.load("synthetic", options=_MNIST_SHAPED) if root is None else datasets.load("mnist", root=root)
    for batch in (60, 512):
        for masked in (False, True):
            case = Case("lenet-300-100", images.name, {}, batch, masked)
            _compare(script_loop, tickdsl_loop, case, images, steps, rounds, device, "tickdsl: ")
        case = Case("lenet-300-100", images.name, {}, batch)
        _compare(script_loop, forward_backward_only, case, images, steps, rounds, device, "network alone: ")


def _compare(
    candidate: Loop,
    baseline: Loop,
    case: Case,
    images: Dataset,
    steps: int,
    rounds: int,
    device: torch.device,
    prefix: str = "",
) -> None:
    """Print the ratio of the step times of `candidate` and `baseline`."""
    recipe = Recipe(length=f"{steps}it", lr=0.01, batch=case.batch)
    built = network(case, images, device)
    loops = [partial(side, built, images, recipe, steps) for side in (candidate, baseline)]
    measured, milliseconds = ratios(*loops, rounds=rounds)
    masked = ", masked" if case.masked else ""
    _row(f"{prefix}{case.model} on {case.data}, batch {case.batch}{masked}", measured, milliseconds)


def _layouts(rounds: int) -> None:
    print("\n| channels_last / contiguous, forward and backward | ratio | range | contiguous, ms |\n|---|---|---|---|")
    for name, side, batch in LAYOUTS:
        x = torch.randn(batch, 3, side, side)
        formats = torch.channels_last, torch.contiguous_format
        loops = [_forward_backward(name, x, memory_format) for memory_format in formats]
        measured, milliseconds = ratios(loops[0], loops[1], rounds)
        _row(f"{name}, {side}x{side}, batch {batch}", measured, milliseconds)


def _forward_backward(name: str, x: Tensor, memory_format: torch.memory_format) -> Callable[[], list[float]]:
    model: nn.Module = models.create(name, classes=10, shape=(3, x.shape[2], x.shape[3]), seed=0)
    set_memory_format(model, memory_format)

    def turn() -> list[float]:
        times = []
        for _ in range(5):
            start = time.process_time()
            torch.autograd.backward(model(x).logsumexp(1).sum())
            times.append(time.process_time() - start)
        return times

    return turn


class Timed:
    """A sparsifier whose changes are timed, in seconds of `now`."""

    def __init__(self, sparsifier: Sparsifier, now: Callable[[], float]) -> None:
        self._sparsifier, self._now = sparsifier, now
        self.seconds: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sparsifier, name)

    def start(self, network: SparseNetwork) -> ActiveSparsifier:
        active = self._sparsifier.start(network)
        change = active.change

        def timed(step: int, gradients: Any = None) -> None:
            start = self._now()
            change(step, gradients)
            self.seconds.append(self._now() - start)

        active.change = timed  # type: ignore[method-assign]
        return active


def _sparsifiers(case: Case, built: Network, steps: int) -> dict[str, Sparsifier]:
    """Sparsifiers that change the masks a few times in a short training, whatever their interval in a real one."""
    every = max(1, steps // 6)
    names = [name for name, parameter in built.model.named_parameters() if parameter.dim() > 1]
    sizes = [parameter.numel() for parameter in built.model.parameters() if parameter.dim() > 1]
    left = {step: [sum(sizes) - sum(sizes) * step // (2 * steps)] for step in range(every, steps, every)}
    return {
        "RigL": Evolution(0.3, every, 2 * steps, "gradient"),
        "SET": Evolution(0.3, every, 2 * steps, "random"),
        "SNFS": Evolution(0.3, every, 2 * steps, "momentum"),
        "gradual, by magnitude": GradualPruning(names, left),
        "gradual, by movement": GradualPruning(names, left, "movement"),
    }


def _sparse(rounds: int, steps: int, device: torch.device, names: Sequence[str] | None) -> None:
    """Print the cost of a change of the masks, and what it adds to a step if there is one every 100 steps."""
    print(
        "\n| masks that change | a change, ms | a step, ms | a step between changes | added by one every 100 steps |\n"
        "|---|---|---|---|---|"
    )
    for case in (case for case in CASES if case.masked and (not names or case.model in names)):
        images = datasets.load(case.data, options=case.options)
        length = case.steps or steps
        for kind in _sparsifiers(case, network(case, images, device, left=0.2), length):
            changes, ratios_between, ordinary = [], [], []
            for _ in range(rounds):
                change, between, step = _sparse_round(case, images, kind, length, device)
                changes.append(change)
                ratios_between.append(between / step)
                ordinary.append(step)
            change, step = statistics.median(changes) * 1e3, statistics.median(ordinary) * 1e3
            ratio = statistics.median(ratios_between)
            # Only movement is summed up in every step.
            added = (max(0.0, ratio - 1) if "movement" in kind else 0.0) + change / (100 * step)
            print(
                f"| {kind}: {case.model}, batch {case.batch} | {change:.2f} | {step:.2f} | {ratio:.3f} | {added:.2%} |",
                flush=True,
            )


def _sparse_round(
    case: Case, images: Dataset, kind: str, length: int, device: torch.device
) -> tuple[float, float, float]:
    """Seconds of a change, of a step between changes, and of a step with masks that do not change."""
    recipe = Recipe(length=f"{length}it", lr=0.01, batch=case.batch)
    now = time.process_time if device.type == "cpu" else partial(_synchronised, device)

    def steps(built: Network, sparsifier: Sparsifier | None) -> list[float]:
        ticks = Ticks(device, steps_per_epoch(len(images.train_targets), recipe.batch))
        loop.train(
            built.model, images, recipe, seed=0, masks=built.masks, device=device, sparsifier=sparsifier,
            before_step=ticks,
        )  # fmt: skip
        return ticks.steps()

    built = network(case, images, device, left=0.2)
    timed = Timed(_sparsifiers(case, built, length)[kind], now)
    between = statistics.median(steps(Network(built.model, {}, device) if kind.startswith("gradual") else built, timed))
    ordinary = statistics.median(steps(network(case, images, device, left=0.2), None))
    return statistics.median(timed.seconds), between, ordinary


def _synchronised(device: torch.device) -> float:
    torch.cuda.synchronize(device)
    return time.perf_counter()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tables = ["bare", "script", "layouts", "sparse"]
    parser.add_argument("tables", nargs="*", default=tables, help=", ".join(tables))
    parser.add_argument("--rounds", type=int, default=9, help="number of rounds (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", type=Path, help="folder with MNIST (default: synthetic images of its shape)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="only these networks, in `bare` and `sparse`")
    arguments = parser.parse_args()
    devices.use_threads(arguments.threads)
    device = devices.resolve_device(arguments.device)
    torch.backends.cudnn.benchmark = True  # for all loops, as in tickdsl's
    threads = plural(torch.get_num_threads(), "thread")
    print(f"torch {torch.__version__}, {device}, {threads}, {plural(arguments.rounds, 'round')}")
    if "bare" in arguments.tables:
        _loops(arguments.rounds, arguments.steps, device, arguments.models)
    if "script" in arguments.tables:
        _scripts(
            arguments.rounds, min(arguments.steps, 24) if device.type == "cpu" else 10 * BLOCK, device, arguments.data
        )
    if "layouts" in arguments.tables and device.type == "cpu":
        _layouts(arguments.rounds)
    if "sparse" in arguments.tables:
        _sparse(arguments.rounds, arguments.steps, device, arguments.models)


if __name__ == "__main__":
    main()
