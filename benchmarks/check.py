"""How long `tickdsl check` takes: for a language error, for a traced network, and for a plan of 10,000 lines.

Measured are the CPU seconds (user and system) of whole processes, the minimum of several rounds, since other load on
the machine changes them little.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import attrs

#: The target of each case in CPU seconds.
TARGETS = {"language error, cold start": 0.3, "traced network, cold start": 1.0, "10,000 lines": 5.0}


@attrs.frozen
class Timing:
    """CPU seconds of a process, and whether it loaded torch."""

    seconds: float
    torch: bool


def plans(folder: Path) -> dict[str, Path]:
    """Write a plan for each case in TARGETS."""
    texts = {
        "language error, cold start": "model vgg61 on cifar10\nprune filters 20% x 8; rewind lr\n",
        "traced network, cold start": "seeds 3\nprune filters global 20% x 8; rewind lr\ncompare random-init\n",
        "10,000 lines": long_plan(10_000),
    }
    paths = {}
    for number, (name, text) in enumerate(texts.items()):
        paths[name] = folder / f"{number}.plan"
        paths[name].write_text(text, "utf-8")
    return paths


def long_plan(lines: int) -> str:
    """A plan of arms with five lines each, expanded for two values of a sweep."""
    text = [
        "model small-cnn on digits",
        "seeds 3",
        "train 12ep lr=0.1 batch=64 milestones=[6ep, 9ep]",
        "sweep scope in [local, global]",
    ]
    while len(text) < lines - 5:
        arm = len(text) // 5
        text += [
            f"arm a{arm} {{",
            f"  train {5 + arm % 7}ep lr=0.{1 + arm % 9} batch=64",
            f"  prune filters $scope 20% x {1 + arm % 3} by l2 except conv1  # arm {arm}",
            "  rewind weights to 1ep",
            "}",
        ]
    text += [""] * (lines - len(text) - 1)
    return "\n".join([*text, "compare all, random-init"]) + "\n"


def check(plan: Path) -> Timing:
    """Time one `tickdsl check` in a separate process."""
    program = (
        "import resource, sys; from tickdsl.cli import main; "
        "main(['check', sys.argv[1], '--format', 'json']); "
        "used = resource.getrusage(resource.RUSAGE_SELF); "
        "print(used.ru_utime + used.ru_stime, 'torch' in sys.modules, file=sys.stderr)"
    )
    completed = subprocess.run(
        [sys.executable, "-c", program, str(plan)], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    seconds, torch = completed.stderr.split()
    return Timing(float(seconds), torch == "True")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="rounds per case (default: %(default)s)")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        for name, plan in plans(Path(folder)).items():
            check(plan)  # fill the caches of the grammar and of traced networks
            fastest = min((check(plan) for _ in range(rounds)), key=lambda timing: timing.seconds)
            loaded = "torch loaded" if fastest.torch else "no torch"
            print(f"{name:<28} {fastest.seconds:6.2f} s  (target {TARGETS[name]:.1f} s)  {loaded}")


if __name__ == "__main__":
    main()
