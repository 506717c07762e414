"""What a GPU is for: correctness, speed and a real study, in order of worth, within a number of minutes.

    python benchmarks/gpu.py [--minutes N] [--data DIR|ARCHIVE] [--device cuda] [--tiny]

It needs this source tree, torch 2.11 or newer, what tickdsl depends on, and pytest. Each part is a process of its own.
Its output is shown as it comes, and a line says how it ended. A part that fails or runs out of time costs the others
nothing. When the minutes are over, the script stops by itself.

1. correctness: captured, evaluated, stacked and resumed trainings against plain ones on the CPU or on the same device;
   plans with every criterion, control and metric; no waiting for the device within an epoch; deterministic bits.
2. floor: steps beside the device's measured arithmetic rate and bandwidth. Target: VGG-16 at batch 512 reaches 40%.
3. stacks: eight stacked ResNet-20. Target: less than twice the time of one.
4. training_loop: the captured step beside an eager one and a typical script's.
5. deterministic: the cost of `tickdsl run --deterministic`.
6. processes: several processes on one device, without stacking and with it.
7. study: structured tickets of VGG-16 on CIFAR-10 at few epochs, 3 seeds, as many levels as fit into what is left.

`--data` is a folder that torchvision's CIFAR-10 is in, or an archive of images as `data folder` reads it. Without it,
the study trains on synthetic images of that shape. `--tiny --device cpu` shows on a machine without a GPU that all
parts run; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
HERE = Path(__file__).parent
#: Seconds that are kept for stopping a part, and the shortest time that is worth starting one.
STOP_SECONDS, SHORTEST_PART = 5.0, 10.0
LEVELS, EPOCHS, SEEDS = 12, 16, 3
TINY_PLAN = """\
model small-cnn width=0.25
data synthetic size=8 train=64 test=32
train 1ep lr=0.05
seeds 2
prune weights 20%; rewind lr
"""


class Clock:
    """The seconds that are left."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return self._end - time.monotonic()


def run(command: Sequence[object], seconds: float, log: Path | None = None) -> str:
    """Run a command for at most `seconds`, with its output shown or written to `log`; say how it ended."""
    print("$", *command, flush=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "helpers")])}
    with nullcontext() if log is None else log.open("w") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=ROOT, env=environment, start_new_session=True, stdout=output, stderr=output and subprocess.STDOUT,
        )  # fmt: skip
    try:
        code = process.wait(timeout=max(seconds - STOP_SECONDS, 1.0))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return "out of time"
    return "ok" if code == 0 else f"failed (exit {code})"


def script(name: str, *arguments: object) -> list[object]:
    return [sys.executable, HERE / f"{name}.py", *arguments]


def tickdsl(*arguments: object) -> list[object]:
    return [sys.executable, "-m", "tickdsl", *arguments]


def correctness(options: argparse.Namespace, clock: Clock) -> str:
    if options.tiny:
        tests: tuple[str, ...] = ("tests/training/step/test_cuda_graphs.py", "-k", "on_a_gpu or captured")
    else:
        tests = ("tests/training", "tests/engine/machine", "-k", "on_a_gpu")
    return run([sys.executable, "-m", "pytest", "-m", "", "-q", "-rs", "-p", "no:cacheprovider", *tests], clock.left)


def floor(options: argparse.Namespace, clock: Clock) -> str:
    names = ("lenet-300-100",) if options.tiny else ()
    return run(script("floor", "--device", options.device, "--epochs", 1 if options.tiny else 3, *names), clock.left)


def stacks(options: argparse.Namespace, clock: Clock) -> str:
    name, together, rounds = ("lenet-300-100", (2,), 1) if options.tiny else ("resnet20", (2, 8, 16), 5)
    return run(
        script("stacked", name, "--device", options.device, "--together", *together, "--rounds", rounds), clock.left
    )


def training_loop(options: argparse.Namespace, clock: Clock) -> str:
    rounds, steps = (1, 8) if options.tiny else (5, 60)
    tables = ("bare",) if options.tiny else ("bare", "script")
    return run(script("loop", *tables, "--device", options.device, "--rounds", rounds, "--steps", steps), clock.left)


def deterministic(options: argparse.Namespace, clock: Clock) -> str:
    """Train twice with `--deterministic`, and twice without: the same bits, and what they cost."""
    model, side, epochs = ("small-cnn", 8, 1) if options.tiny else ("resnet20", 32, 6)
    images = (256, 64) if options.tiny else (20_000, 2_000)
    text = (
        f"model {model}\ndata synthetic size={side} train={images[0]} test={images[1]}\n"
        f"train {epochs}ep lr=0.05 batch=128\nprune weights 20%; rewind lr\n"
    )
    seconds: dict[bool, list[float]] = {True: [], False: []}
    weights: dict[bool, list[dict[str, bytes]]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder, "deterministic.plan")
        plan.write_text(text)
        for number in range(4):
            flag = number % 2 == 1
            store = Path(folder, str(number))
            arguments = ["run", plan, "--store", store, "--out", Path(folder, "runs"), "--jobs", 1, "--no-tensorboard"]
            arguments += ["--device", options.device, *(["--deterministic"] if flag else [])]
            log = Path(folder, "log")
            outcome = run(tickdsl(*arguments), clock.left, log)
            if outcome != "ok":
                print(log.read_text())
                return outcome
            seconds[flag].append(training_seconds(store))
            weights[flag].append({path.parent.name: path.read_bytes() for path in store.rglob("weights.safetensors")})
    same = {flag: first == second for flag, (first, second) in weights.items()}
    ratio = min(seconds[True]) / min(seconds[False])
    print(f"deterministic: same bits twice: {same[True]} (without: {same[False]}); {ratio:.2f} times the time")
    return "ok" if same[True] else "failed (two deterministic runs differ)"


def training_seconds(store: Path) -> float:
    """The seconds of all trainings in a store."""
    return float(sum(metrics["train_time"] for metrics in training_metrics(store)))


def trained_epochs(store: Path) -> int:
    """The epochs of all trainings in a store."""
    return sum(len(metrics["epochs"]) for metrics in training_metrics(store))


def training_metrics(store: Path) -> list[dict[str, Any]]:
    results = [json.loads(path.read_text()) for path in store.glob("results/*/*/result.json")]
    return [result["metrics"] for result in results if result["operation"] == "train"]


def processes(options: argparse.Namespace, clock: Clock) -> str:
    outcome = "ok"
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder, "tiny.plan")
        plan.write_text(TINY_PLAN)
        for stack in ("1",) if options.tiny else ("1", "auto"):
            arguments = ["jobs", "--jobs", 2 if options.tiny else 4, "--stack", stack, "--device", options.device]
            arguments += ["--rounds", 1, *(["--plan", plan] if options.tiny else [])]
            outcome = run(script("study", *arguments), clock.left)
            if outcome != "ok":
                break
    return outcome


def study(options: argparse.Namespace, clock: Clock) -> str:
    """Measure two epochs, then run as many levels as the time left allows."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        probe = folder / "probe.plan"
        probe.write_text(study_text(options, epochs=2, levels=1, seeds=1))
        outcome = run_study(options, probe, folder, clock)
        if outcome != "ok":
            return outcome
        epochs, most = (1, 1) if options.tiny else (EPOCHS, LEVELS)
        epoch = training_seconds(folder / "store") / trained_epochs(folder / "store")
        # A level is a ticket and a control for each seed. Smaller and stacked networks take less than this.
        levels = int((0.8 * clock.left / (epoch * epochs * SEEDS) - 1) / 2)
        if levels < 1:
            return f"left out: {epoch:.1f} s per epoch allow no level of {epochs} epochs"
        plan = folder / "vgg16-tickets.plan"
        plan.write_text(study_text(options, epochs, min(levels, most), SEEDS))
        print(plan.read_text())
        return run_study(options, plan, folder, clock)


def run_study(options: argparse.Namespace, plan: Path, folder: Path, clock: Clock) -> str:
    arguments: list[object] = ["run", plan, "--store", folder / "store", "--out", folder / "runs", "--no-tensorboard"]
    arguments += ["--plain", "--device", options.device]
    if options.data is not None and options.data.is_dir():
        arguments += ["--data", options.data]
    return run(tickdsl(*arguments), clock.left)


def study_text(options: argparse.Namespace, epochs: int, levels: int, seeds: int) -> str:
    """Structured tickets with rewound learning rate, and fresh weights in the same structures."""
    if options.tiny:
        data, model, precision = "data synthetic size=8 train=64 test=32", "small-cnn width=0.25", "fp32"
    else:
        model, precision = "vgg16", "bf16" if options.device != "cpu" else "fp32"
        if options.data is None:
            data = "data synthetic train=50000 test=10000"
        elif options.data.is_dir():
            data = "data cifar10"
        else:
            data = f'data folder path="{options.data}"'
    return (
        f"model {model}\n{data}\n"
        f"train {epochs}ep lr=0.1 batch=512 decay=5e-4 schedule=cosine augment=[crop, flip] precision={precision}\n"
        f"seeds {seeds}\nprune filters global 20% x {levels}; rewind lr\n"
        "compare random-init, dense within=0.5%\nreport accuracy, params, flops, train-time\n"
    )


PARTS: tuple[Callable[[argparse.Namespace, Clock], str], ...] = (
    correctness, floor, stacks, training_loop, deterministic, processes, study,
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=12.0, help="stop after this time (default: %(default)s)")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--data", type=lambda text: Path(text).resolve(), help="CIFAR-10: a folder or an archive")
    parser.add_argument("--tiny", action="store_true", help="all parts at sizes that mean nothing")
    names = [part.__name__ for part in PARTS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="PART", help=", ".join(names))
    options = parser.parse_args()
    missing = [name for name in ("torch", "lark", "attrs", "networkx", "pytest") if not importlib.util.find_spec(name)]
    if missing:
        parser.error(f"not installed: {', '.join(missing)}; install tickdsl with its extra [test]")
    import torch

    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("torch sees no GPU here; `--tiny --device cpu` shows that all parts run")
    name = torch.cuda.get_device_name() if options.device.startswith("cuda") else options.device
    print(
        f"{name}, torch {torch.__version__}, Python {sys.version.split()[0]}, {options.minutes:g} minutes", flush=True
    )
    clock, outcomes = Clock(options.minutes * 60), []
    for part in PARTS:
        if part.__name__ not in options.only:
            continue
        if clock.left < SHORTEST_PART:
            outcomes.append((part.__name__, "no time left", 0.0))
            continue
        print(f"\n== {part.__name__} ({clock.left:.0f} s left)", flush=True)
        begin = time.monotonic()
        outcome = part(options, clock)
        outcomes.append((part.__name__, outcome, time.monotonic() - begin))
        print(f"== {part.__name__}: {outcome}, {time.monotonic() - begin:.0f} s", flush=True)
    print("\n".join(["", *(f"{name:15} {outcome}, {seconds:.0f} s" for name, outcome, seconds in outcomes)]))
    sys.exit(any(outcome.startswith("failed") for _, outcome, _ in outcomes))


if __name__ == "__main__":
    main()
