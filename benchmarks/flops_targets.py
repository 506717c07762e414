"""FLOPs targets on 20 networks of torchvision: whether each is reached within one unit, and the smaller network exact.

    python benchmarks/flops_targets.py [NAME …] [--left SHARE] [--results FILE]

Each network is pruned by `tickdsl.prune(…, unit="channels", target="flops")` to 60% of its FLOPs, at the usual size of
its images, on random weights. Then

- torch's own counter (`torch.utils.flop_counter`) counts the FLOPs of both networks,
- the share that goes beyond the target is compared with that of the largest single unit: it must be less,
- outputs are compared, in double precision, with those of the dense network whose layers read zeros in place of what
  was removed (`tests/helpers/graph_oracle.py`).

The seconds are those of `tickdsl.prune` on the CPU, with everything that it does: tracing, ranking, and cutting. A line
is printed per network; with `--results`, networks that the file has are not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
from graph_agreement import agreement
from graph_oracle import make_weights_distinct
from graph_zoo import build

import tickdsl
from tickdsl.graph import ModelGraph, Structure, cost, trace

NETWORKS = (
    "resnet18", "vgg16_bn", "densenet121", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0",
    "shufflenet_v2_x0_5", "squeezenet1_1", "googlenet", "inception_v3", "resnext50_32x4d", "regnet_y_400mf",
    "mnasnet1_0", "convnext_tiny", "vit_b_16", "swin_t", "maxvit_t", "alexnet", "wide_resnet50_2", "fcn_resnet50",
)  # fmt: skip
SIZES = {"inception_v3": 299}
_BATCH = 2


def flops(network: nn.Module, inputs: Tensor) -> int:
    """The FLOPs of a forward pass, as torch counts them: fused attention is not counted, so it is taken apart."""
    counter = FlopCounterMode(display=False)
    torch.backends.mha.set_fastpath_enabled(False)
    with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        network(inputs)
    return int(counter.get_total_flops())


def largest_unit(graph: ModelGraph, structure: Structure) -> float:
    """The largest share of the dense FLOPs that one of the removed units has in what is left."""
    dense, left = cost(graph, Structure.dense(graph)).macs, cost(graph, structure).macs
    removed = {
        group.name: [unit for unit in range(group.size) if unit not in set(structure.kept[group.name].tolist())]
        for group in graph.channels
        if group.name in structure.kept
    }
    shares = []
    for name in removed:
        with_one_more = Structure.dense(graph)
        for other, units in removed.items():
            lost = units[1:] if other == name else units
            if lost:
                with_one_more = with_one_more.remove(other, lost)
        shares.append((cost(graph, with_one_more).macs - left) / dense)
    return max(shares)


def measure(name: str, left: float) -> dict[str, Any]:
    """Prune a network to a share of its FLOPs, and compare."""
    torch.manual_seed(0)
    size = SIZES.get(name, 224)
    network, inputs = make_weights_distinct(build(name, native=True).eval()), torch.randn(_BATCH, 3, size, size)
    start = time.process_time()
    small = tickdsl.prune(network, inputs, 1 - left, unit="channels", target="flops")
    seconds = time.process_time() - start
    graph = trace(network, (inputs.to("meta"),))
    structure = tickdsl.structure_of(small)
    counted = flops(small, inputs) / flops(network, inputs)
    by_graph = cost(graph, structure).macs / cost(graph, Structure.dense(graph)).macs
    found = agreement(network.double(), small.double(), graph, structure, (inputs.double(),), gradients=False)
    return {
        "name": name, "size": size, "left": by_graph, "left_by_torch": counted, "beyond": left - by_graph,
        "largest_unit": largest_unit(graph, structure), "error": found.error, "exact": found.exact,
        "seconds": seconds, "torch": torch.__version__,
    }  # fmt: skip


def is_reached(result: dict[str, Any]) -> bool:
    """Whether the target is reached, and exceeded by less than one unit."""
    return bool(-1e-9 <= result["beyond"] < result["largest_unit"])


def row(result: dict[str, Any]) -> str:
    """A result as a row of the table in README.md."""
    return (
        f"| {result['name']} | {100 * result['left']:.3f}% | {100 * result['left_by_torch']:.3f}% | "
        f"{100 * result['largest_unit']:.3f}% | {'yes' if is_reached(result) else 'NO'} | {result['error']:.0e} | "
        f"{'yes' if result['exact'] else 'NO'} | {result['seconds']:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks (default: all 20)")
    parser.add_argument("--left", type=float, default=0.6, metavar="SHARE", help="FLOPs that are left (default: 0.6)")
    parser.add_argument("--results", type=Path, metavar="FILE", help="file of results, one JSON line per network")
    options = parser.parse_args()
    lines = options.results.read_text().splitlines() if options.results and options.results.exists() else []
    known = {result["name"]: result for result in map(json.loads, lines)}
    print("| network | FLOPs left | by torch's counter | largest unit | within one unit | error | exact | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for name in options.names or NETWORKS:
        if name not in known:
            known[name] = measure(name, options.left)
            if options.results:
                with options.results.open("a") as file:
                    file.write(json.dumps(known[name]) + "\n")
        print(row(known[name]), flush=True)
    chosen = [known[name] for name in options.names or NETWORKS]
    reached, exact = sum(map(is_reached, chosen)), sum(result["exact"] for result in chosen)
    print(f"\n{reached} of {len(chosen)} targets reached within one unit, {exact} of {len(chosen)} networks exact")


if __name__ == "__main__":
    main()
