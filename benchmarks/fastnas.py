"""FLOPs targets beside NVIDIA's FastNAS: who reaches 60% of the FLOPs, in how many seconds, and by how many scores.

    python benchmarks/fastnas.py [NAME …] [--left SHARE] [--limit SECONDS] [--python PATH]

Both prune the networks of `flops_targets.py`, at the usual size of their images and on random weights, each in a
process of its own with one thread. FastNAS (`modelopt.torch.prune`, mode `fastnas`) searches: it scores smaller
networks, one layer narrower at a time, and takes the widths whose scores fall least. Its score here is the squared
distance of the outputs to those of the dense network on two images, one forward pass a call, so that the seconds are
mostly those of the tool. `tickdsl.prune` (unit `channels`, target `flops`) ranks channels by their L2 norms, and calls
no score. So the table compares what is reached and what that costs, not how accurate the networks are: on random
weights, that means nothing.

FastNAS needs `pip install --no-deps nvidia-modelopt omegaconf pulp torchprofile==0.0.4`, best in an environment of its
own beside tickdsl, named by `--python`. Without it, it is "not available". A network that it has not pruned within
the limit counts as not done. FLOPs are counted by torch (`torch.utils.flop_counter`), for both.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from flops_targets import NETWORKS, SIZES, flops, measure
from graph_zoo import build
from torch import Tensor, nn


def by_fastnas(name: str, left: float) -> dict[str, Any]:
    """Prune a network by FastNAS: the FLOPs that are left, score calls, CPU seconds. It must be trainable."""
    import modelopt.torch.prune as mtp  # type: ignore[import-not-found]

    torch.manual_seed(0)
    size = SIZES.get(name, 224)
    network, images = build(name, native=True).eval(), torch.randn(2, 3, size, size)
    dense = flops(network, images)
    with torch.no_grad():
        wanted = _outputs(network, images)
    calls = 0

    def score(candidate: nn.Module) -> float:
        nonlocal calls
        calls += 1
        candidate.eval()
        with torch.no_grad():
            return -float((_outputs(candidate, images) - wanted).square().mean())

    start = time.process_time()
    # `data_loader` fills batch norms' statistics; labels are not read
    batches = [(images, torch.zeros(2, dtype=torch.long))]
    config = {"data_loader": batches, "score_func": score, "verbose": False}
    small, _ = mtp.prune(
        network, "fastnas", constraints={"flops": f"{100 * left}%"}, dummy_input=images[:1], config=config
    )
    seconds = time.process_time() - start
    counted = flops(small.eval(), images) / dense
    _outputs(small.train(), images).square().mean().backward()
    return {"left": counted, "calls": calls, "seconds": seconds}


def by_tickdsl(name: str, left: float) -> dict[str, Any]:
    """Prune a network by `tickdsl.prune`, with the error of the smaller network against the dense one without it."""
    found = measure(name, left)
    return {"left": found["left_by_torch"], "exact": found["exact"], "seconds": found["seconds"]}


def _outputs(network: nn.Module, images: Tensor) -> Tensor:
    found = network(images)
    if isinstance(found, dict):  # fcn_resnet50
        found = found["out"]
    return found[0] if isinstance(found, tuple) else found  # googlenet and inception_v3 in training


def in_process(python: str, side: str, name: str, left: float, limit: float) -> dict[str, Any]:
    """The result of one side for one network, or why there is none, as `{"failed": …}`."""
    command = [python, __file__, "--one", side, name, "--left", str(left)]
    here = Path(__file__).parents[1]
    paths = [str(here), str(here / "benchmarks"), str(here / "tests" / "helpers")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"failed": f"not within {limit:.0f} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1][:100]}
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def row(name: str, peer: dict[str, Any] | None, ours: dict[str, Any]) -> str:
    """A line of the table in README.md."""
    if peer is None:
        theirs = "not available | | |"
    elif "failed" in peer:
        theirs = f"{peer['failed'].replace('|', '/')} | | |"
    else:
        theirs = f"{100 * peer['left']:.2f}% | {peer['calls']} | {peer['seconds']:.1f} |"
    if "failed" in ours:
        return f"| {name} | {theirs} {ours['failed'].replace('|', '/')} | | |"
    exact = "yes" if ours["exact"] else "NO"
    return f"| {name} | {theirs} {100 * ours['left']:.2f}% | {exact} | {ours['seconds']:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks (default: all 20)")
    parser.add_argument("--left", type=float, default=0.6, metavar="SHARE", help="FLOPs that are left (default: 0.6)")
    parser.add_argument("--limit", type=float, default=120, metavar="SECONDS", help="for a network (default: 120)")
    parser.add_argument("--python", default=sys.executable, metavar="PATH", help="interpreter that has FastNAS")
    parser.add_argument("--one", choices=["fastnas", "tickdsl"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.one:
        side = by_fastnas if options.one == "fastnas" else by_tickdsl
        print(json.dumps(side(options.names[0], options.left)))
        return
    available = _has_fastnas(options.python)
    print("| network | FastNAS: FLOPs left | scores | seconds | tickdsl: FLOPs left | exact | seconds |")
    print("|---|---|---|---|---|---|---|")
    reached = {"fastnas": 0, "tickdsl": 0}
    for name in options.names or NETWORKS:
        peer = in_process(options.python, "fastnas", name, options.left, options.limit) if available else None
        ours = in_process(sys.executable, "tickdsl", name, options.left, options.limit)
        print(row(name, peer, ours), flush=True)
        for side, result in (("fastnas", peer), ("tickdsl", ours)):
            reached[side] += result is not None and "left" in result and result["left"] <= options.left + 1e-3
    count = len(options.names or NETWORKS)
    peers = f"{reached['fastnas']} of {count}" if available else "not available"
    print(f"\ntargets reached within the limit: FastNAS {peers}, tickdsl {reached['tickdsl']} of {count}")


def _has_fastnas(python: str) -> bool:
    if python == sys.executable:
        return find_spec("modelopt") is not None
    return subprocess.run([python, "-c", "import modelopt"], capture_output=True).returncode == 0


if __name__ == "__main__":
    main()
