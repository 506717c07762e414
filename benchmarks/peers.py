"""tickdsl beside its peers: the same work through both, with ratios. A peer that is absent is "not available".

    python benchmarks/peers.py study --open-lth DIR --mnist DIR [--rounds N] [--two-jobs]
    python benchmarks/peers.py stored [--rounds N]          a study that is stored, run again
    python benchmarks/peers.py graph [NAME …]               half of the channels, beside Torch-Pruning
    python benchmarks/peers.py script [--rounds N]          one arm of a plan, beside the same in plain torch

`study` is iterative magnitude pruning of LeNet-300-100 on MNIST, 2 levels of 2 epochs each, after the dense training:
through open_lth's own command (`--open-lth`: a clone of facebookresearch/open_lth) and through `tickdsl run`, in turns.
Both train the same network on the same images with SGD, a rate of 0.1, batches of 128 and no momentum, prune 20% of the
hidden weights that are left over all layers, and rewind to init. Times are the CPU seconds (user and system) of all
processes of a command, from its start to its end, in one thread; each round is another seed, with an empty store. With
`--two-jobs`, two seeds run at the same time: two commands of open_lth, `--jobs 2` of tickdsl; then the time by the wall
counts, on a machine with two free cores.

The other parts are those of benchmarks/graph.py and benchmarks/by_hand.py, with one line per comparison.

Linux only: processes of a command that outlive the one they come from are adopted, so that their CPU time counts.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import attrs
from children import adopt_orphans, children_seconds

HERE = Path(__file__).parent
LEVELS, EPOCHS = 2, 2
PLAN = f"""\
model lenet-300-100 on mnist
train {EPOCHS}ep lr=0.1 batch=128 momentum=0
arm imp {{ prune weights global 20% x {LEVELS} except fc3; rewind weights to init }}
compare imp, dense
"""
#: The options of open_lth for the same study; all others are its defaults for this network.
OPEN_LTH = ("lottery", "--default_hparams=mnist_lenet_300_100", f"--levels={LEVELS}", f"--training_steps={EPOCHS}ep")
#: A plan that runs without any data.
SMALL_PLAN = HERE.parent / "plans" / "card.plan"


@attrs.frozen
class Used:
    """What commands took: seconds by the wall, CPU seconds of all their processes, and what they printed."""

    wall: float
    cpu: float
    output: str = ""


def run(commands: Sequence[Sequence[str]], folder: Path, more: Mapping[str, str] | None = None) -> Used:
    """Run commands at the same time, in a folder, with one thread each. Exits with the errors of one that fails.

    Python keeps its bytecode, as it does for whoever has installed a tool, whatever this process was started with.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "", **(more or {})}
    adopt_orphans()
    start, before, printed = time.monotonic(), children_seconds(), ""
    with tempfile.TemporaryDirectory() as logs, ExitStack() as files:
        started = []
        for number, command in enumerate(commands):
            log = files.enter_context(Path(logs, str(number)).open("w+b"))
            started.append((subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log), log))
        for process, log in started:
            process.wait()
            log.seek(0)
            text = log.read().decode(errors="replace")
            if process.returncode:
                raise SystemExit(f"{' '.join(process.args)} failed:\n{text[-3000:]}")  # type: ignore[arg-type]
            printed += text
        wall = time.monotonic() - start
    return Used(wall, children_seconds() - before, printed)


def tickdsl(*arguments: object) -> list[str]:
    """The command `tickdsl`, with these arguments."""
    return [sys.executable, "-m", "tickdsl", *map(str, arguments)]


def unpacked_mnist(given: Path, home: Path) -> Path:
    """A folder with MNIST as open_lth wants it below a home folder, which tickdsl reads as well."""
    folder = home / "open_lth_datasets" / "mnist"
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    found = sorted([*given.rglob("*-ubyte"), *given.rglob("*-ubyte.gz")])
    if len({path.name.removesuffix(".gz") for path in found}) != 4:
        raise SystemExit(f"{given} does not hold the four files of MNIST")
    for path in found:
        target = raw / path.name.removesuffix(".gz")
        if not target.exists():
            target.write_bytes(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
    return folder


def open_lth_command(clone: Path, replicate: int) -> list[str]:
    """The command that runs the study through open_lth."""
    runner = str(HERE / "open_lth_today.py")
    return [sys.executable, runner, str(clone.resolve()), *OPEN_LTH, f"--replicate={replicate}"]


def open_lth_accuracies(home: Path, replicate: int) -> dict[int, float]:
    """The last test accuracy of each level, from its loggers."""
    (folder,) = home.glob(f"open_lth_data/lottery_*/replicate_{replicate}")
    found = {}
    for level in range(LEVELS + 1):
        lines = (folder / f"level_{level}" / "main" / "logger").read_text().splitlines()
        (*_, last) = (line.split(",")[2] for line in lines if line.startswith("test_accuracy,"))
        found[level] = float(last)
    return found


def our_accuracies(folder: Path) -> dict[int, float]:
    """The test accuracy of each level of the newest run, averaged over its seeds."""
    newest = max((folder / "runs").glob("*/results.json"), key=lambda path: path.stat().st_mtime)
    (arm,) = json.loads(newest.read_text())["arms"]
    return {level["level"]: next(iter(level["contestants"].values()))["accuracy"]["mean"] for level in arm["levels"]}


def left_behind(folder: Path) -> str:
    """The number, size and kinds of the files in a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    kinds: dict[str, int] = {}
    for path in files:
        kind = re.sub(r"_ep\d+_it\d+", "", path.name) if not re.match(r"[0-9a-f]{16}|\w+-20\d\d", path.name) else "…"
        kinds[kind] = kinds.get(kind, 0) + 1
    size = sum(path.stat().st_size for path in files) / 1e6
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return f"{len(files)} files, {size:.1f} MB: {listed}"


def study(clone: Path | None, mnist: Path | None, rounds: int, two_jobs: bool) -> None:
    """Print the comparison with open_lth."""
    if clone is None or not (clone / "open_lth.py").is_file() or mnist is None:
        print("open_lth: not available (it needs `--open-lth DIR` with a clone, and `--mnist DIR`)")
        return
    theirs, ours, differences = [], [], []
    jobs = 2 if two_jobs else 1
    with tempfile.TemporaryDirectory() as scratch:
        home, folder = Path(scratch, "home"), Path(scratch, "tickdsl")
        data = unpacked_mnist(mnist, home)
        for number in range(1, rounds + 1):
            replicates = [jobs * number + job for job in range(jobs)]
            commands = [open_lth_command(clone, each) for each in replicates]
            theirs.append(run(commands, folder.parent, {"HOME": str(home)}))
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            (folder / "study.plan").write_text(f"{PLAN}seeds {replicates}\n")
            command = tickdsl("run", "study.plan", "--plain", "--jobs", jobs, "--data", data)
            ours.append(run([command], folder))
            reached, own = [open_lth_accuracies(home, each) for each in replicates], our_accuracies(folder)
            differences += [[own[level] - statistics.fmean(each[level] for each in reached) for level in own]]
            print(
                f"round {number}: CPU {theirs[-1].cpu:.1f} s and {ours[-1].cpu:.1f} s, "
                f"wall {theirs[-1].wall:.1f} s and {ours[-1].wall:.1f} s; accuracy of each level "
                f"{[round(100 * statistics.fmean(e[n] for e in reached), 2) for n in own]} and "
                f"{[round(100 * own[n], 2) for n in own]}",
                flush=True,
            )
        again = run(commands, folder.parent, {"HOME": str(home)}), run([command], folder)
        kinds = left_behind(home / "open_lth_data"), left_behind(folder)
    table(theirs, ours, again, kinds, two_jobs)
    agreement(differences)


def table(
    theirs: Sequence[Used], ours: Sequence[Used], again: tuple[Used, Used], kinds: tuple[str, str], two_jobs: bool
) -> None:
    """Print the medians of both sides."""
    what = "two seeds at once" if two_jobs else "one process"
    print(f"\n| {what} | open_lth | tickdsl | times as fast |\n|---|---|---|---|")
    for name, values in (
        ("CPU seconds, median", [[used.cpu for used in side] for side in (theirs, ours)]),
        ("seconds by the wall, median", [[used.wall for used in side] for side in (theirs, ours)]),
        ("CPU seconds of the same command again", [[used.cpu] for used in again]),
    ):
        a, b = map(statistics.median, values)
        print(f"| {name} | {a:.1f} | {b:.1f} | {a / b:.1f} |")
    lines = len([line for line in PLAN.splitlines() if line])
    print(f"| configuration | a command with {len(OPEN_LTH) - 1} options for each seed | {lines} lines | |")
    print(f"| left behind | {kinds[0]} | {kinds[1]} | |")
    print("| resumed | a level from its last epoch, by the same command | every step, from its last checkpoint, | |")
    print("| read | one text file for each level | a table, report.html, results.json and .csv | |")


def agreement(differences: Sequence[Sequence[float]]) -> None:
    """Print whether both reach the same accuracy: the difference of each level, over the rounds."""
    from tickdsl.results.estimates import estimate

    for level, values in enumerate(zip(*differences, strict=True)):
        found = estimate(values)
        assert found is not None
        half = "" if found.half_width is None else f" ± {100 * found.half_width:.2f}"
        same = found.half_width is not None and abs(found.mean) <= found.half_width
        verdict = "the same within noise" if same else "" if found.half_width is None else "DIFFERENT"
        print(f"level {level}: tickdsl minus open_lth {100 * found.mean:+.2f}{half} points ({found.n} seeds) {verdict}")


def stored(rounds: int) -> None:
    """Print how long `tickdsl run` takes if all steps are stored, until its results are there and in all."""
    code = (
        "import os, sys\n"
        "import tickdsl.cli.running as running\n"
        "echo = running.echo\n"
        "def told(text, **options):\n"
        "    echo(text, **options)\n"
        "    if options.get('styled') and sys.argv[0] == 'table':\n"
        "        print('TORCH', 'torch' in sys.modules, file=sys.stderr, flush=True)\n"
        "        sys.stdout.flush()\n"
        "        os._exit(0)\n"
        "running.echo, sys.argv = told, sys.argv[1:]\n"
        "from tickdsl.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    with tempfile.TemporaryDirectory() as scratch:
        command = ["run", str(SMALL_PLAN), "--plain", "--jobs", "1"]
        run([tickdsl(*command)], Path(scratch))
        for what, name in (("table", "until the results are printed"), ("all", "with the report")):
            program = [sys.executable, "-c", code, what, *command]
            used = [run([program], Path(scratch)) for _ in range(rounds)]
            torch = {"True": ", torch loaded", "False": ", torch not loaded"}
            told = re.findall(r"^TORCH (\w+)$", used[-1].output, re.MULTILINE)
            seconds = sorted(one.cpu for one in used)
            print(
                f"a stored study, {name}: {statistics.median(seconds):.2f} CPU s, {seconds[0]:.2f} to "
                f"{seconds[-1]:.2f} (target: 1){torch[told[0]] if told else ''}",
                flush=True,
            )


def graph(names: Sequence[str]) -> None:
    """Print the ratios of tickdsl.prune and Torch-Pruning."""
    import graph as benchmark

    for name in names or ("resnet18", "resnet50", "densenet121", "mobilenet_v2"):
        ours, theirs = (benchmark.run(tool, name, 0.5) for tool in ("tickdsl.prune", "torch-pruning"))
        _line(name, "Torch-Pruning", ours, theirs, benchmark.cell)


def _line(name: str, peer: str, ours: dict[str, object], theirs: dict[str, object], cell: object) -> None:
    assert callable(cell)
    seconds = [result.get("seconds") for result in (ours, theirs)]
    ratio = f"; {float(str(seconds[1])) / float(str(seconds[0])):.1f} times as fast" if all(seconds) else ""
    print(f"{name}: tickdsl {cell(ours).strip()}, {peer} {cell(theirs).strip()}{ratio}", flush=True)


def script(rounds: int) -> None:
    """Print the ratio of a hand-written script and the same arm of plans/colt.plan, one seed of each."""
    plan = HERE.parent / "plans" / "colt.plan"
    ours, theirs = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as scratch:
            theirs.append(run([[sys.executable, str(HERE / "by_hand.py"), "--seeds", "1"]], Path(scratch)).cpu)
            command = tickdsl("run", plan, "--only", "imp", "--seeds", "1", "--jobs", 1, "--plain", "--no-tensorboard")
            ours.append(run([command], Path(scratch)).cpu)
    a, b = statistics.median(theirs), statistics.median(ours)
    print(f"the arm `imp` of plans/colt.plan, one seed: by hand {a:.1f} CPU s, tickdsl {b:.1f}, ratio {a / b:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("study", "stored", "graph", "script")
    parser.add_argument("part", nargs="?", choices=parts, help="what to compare (default: all of it)")
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks, for `graph`")
    parser.add_argument("--open-lth", type=Path, metavar="DIR", help="a clone of facebookresearch/open_lth")
    parser.add_argument("--mnist", type=Path, metavar="DIR", help="a folder with the files of MNIST")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, each with another seed (default: %(default)s)")
    parser.add_argument("--two-jobs", action="store_true", help="two seeds at the same time, by the wall")
    given = parser.parse_args()
    chosen = (given.part,) if given.part else parts
    if "study" in chosen:
        study(given.open_lth, given.mnist, given.rounds, given.two_jobs)
    if "stored" in chosen:
        stored(given.rounds)
    if "graph" in chosen:
        graph(given.names)
    if "script" in chosen:
        script(given.rounds)


if __name__ == "__main__":
    main()
