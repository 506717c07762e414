"""Inference of refilled and regrouped networks: only filters and dense blocks, beside the masked and dense network.

The masks keep a share of each convolution's weights but the first one's: `even` masks at random places, `uneven` ones
where filters and input channels differ in how many weights they keep, as after training. All forms compute the same
masked network; the largest difference of their outputs is printed. Times are those of `report latency`: one thread, its
CPU time.

    python benchmarks/coarsening.py [--model NAME] [--size PIXELS] [--batch N] [--left SHARE …]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact
from tickdsl.graph.surgery.dense_blocks import compact_with_blocks
from tickdsl.graph.tracing.trace import trace
from tickdsl.metrics.latency import measure_latency
from tickdsl.pruning.convolution_masks import is_convolution
from tickdsl.pruning.criteria.protocol import ScoringContext
from tickdsl.pruning.refill import refill_filters
from tickdsl.pruning.regroup import regroup_masks
from tickdsl.training.models import create

REGROUP = {"groups": 8, "ratio": 1.5, "min_rows": 4}
CPU = torch.device("cpu")


def masked(graph: ModelGraph, left: float, kind: str) -> Structure:
    """A structure whose convolutions, but the first one, keep the share `left` of their weights."""
    stream = np.random.default_rng(0)
    masks = {}
    for name in [name for name in graph.weights if is_convolution(graph, name)][1:]:
        filters, channels, *kernel = graph.parameters[name]
        scores = np.abs(stream.normal(size=(filters, channels, *kernel)))
        if kind == "uneven":
            scores *= np.exp(stream.normal(size=(filters, 1, 1, 1)) + stream.normal(size=(1, channels, 1, 1)))
        masks[name] = scores > np.quantile(scores, 1 - left)
    return Structure.dense(graph).with_masks(masks)


def forms(module: nn.Module, graph: ModelGraph, left: float, kind: str) -> Iterator[tuple[str, Structure]]:
    """The structures by name: the masks, and what `refill` and `regroup` make of them."""
    structure = masked(graph, left, kind)
    context = ScoringContext(graph, structure, module.state_dict())
    yield "masks", structure
    yield "refill", refill_filters(context, {"by": "l1"})
    yield "regroup", regroup_masks(graph, structure, REGROUP)


def time_networks(module: nn.Module, images: Tensor) -> tuple[float, float]:
    """Seconds for one image and for all."""
    figures = measure_latency(module, images, device=CPU)
    return figures["latency"], figures["latency.batch"]


def row(name: str, left: float, times: tuple[float, float], dense: tuple[float, float], difference: float) -> str:
    """A line of the table."""
    ratios = " ".join(f"{before / after:6.2f}" for before, after in zip(dense, times, strict=True))
    milliseconds = " ".join(f"{1e3 * seconds:9.2f}" for seconds in times)
    return f"{name:28} {left:7.1%} {milliseconds}   {ratios}   {difference:.0e}"


def compare(arguments: argparse.Namespace) -> None:
    shape = (3, arguments.size, arguments.size)
    module = create(arguments.model, classes=10, shape=shape, seed=0).eval()
    graph = trace(module, (torch.empty(2, *shape, device="meta"),))
    images = torch.randn(arguments.batch, *shape, generator=torch.Generator().manual_seed(0))
    total = sum(int(np.prod(graph.parameters[name])) for name in graph.weights if is_convolution(graph, name))
    print(
        f"{arguments.model}, {arguments.size}x{arguments.size}; ms for 1 image and for {arguments.batch}; times as fast"
    )
    dense = time_networks(compact(module, graph, Structure.dense(graph)), images)
    print(row("dense", 1.0, dense, dense, 0.0), flush=True)
    for left in arguments.left:
        for kind in ("even", "uneven"):
            for name, structure in forms(module, graph, left, kind):
                network = compact(module, graph, structure)
                with torch.inference_mode():
                    expected = network(images)
                if name != "masks":
                    compact_with_blocks(network, graph, structure)
                with torch.inference_mode():
                    difference = float((network(images) - expected).abs().max() / expected.abs().max())
                kept = sum(int(mask.sum()) for mask in structure.masks.values())
                share = (total - sum(mask.size for mask in structure.masks.values()) + kept) / total
                title = f"{left:.0%} left, {kind}, {name}"
                print(row(title, share, time_networks(network, images), dense, difference), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vgg16")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--left", type=float, nargs="*", default=[0.2, 0.1, 0.05])
    compare(parser.parse_args())
