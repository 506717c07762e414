"""Exactness of removing channel groups and blocks from torchvision's networks, one by one and all together.

    python benchmarks/zoo.py [NAME … | --all [--share K/N]] [--results FILE] [--limit SECONDS]
    python benchmarks/zoo.py --table [--results FILE]

Measures each network that the results file lacks or has only in part, smallest first, and appends a JSON line for each;
a killed run resumes where it stopped. `--table` prints the file's results for docs/explanation/model-graph.md.

Each pruned network is compared, in double precision and on small images, with the dense network with the removed inputs
of every layer set to zero (`tests/helpers/graph_oracle.py`); a third to half of the groups' units are removed. All
together, gradients are compared too; one by one, only outputs. `--limit` stops removing groups or blocks one by one
after so many seconds per network, and the table says how many were run. `--share 1/2` and `--share 2/2` divide the
networks between two processes, each with its own results file.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
from graph_agreement import Agreement, agreement, block_agreement, first_only, gradient_difference, group_agreement
from graph_oracle import outputs, random_layer_removal, random_thinning
from graph_zoo import (
    BACKBONES,
    CLASSIFICATION,
    DETECTION,
    HUGE,
    OPTICAL_FLOW,
    QUANTIZABLE,
    SEGMENTATION,
    VIDEO,
    build,
    distinct_example,
    example,
    models,
)
from zoo_table import Result, row, table

from tickdsl.errors import TickdslError
from tickdsl.graph import ModelGraph, Structure, compact, cost, trace
from tickdsl.graph.surgery.rewritten import SurgeryError
from tickdsl.plurals import plural

RESULTS = Path(__file__).parents[1] / ".data" / "zoo.jsonl"
SHARE = 0.4
KINDS = (CLASSIFICATION, QUANTIZABLE, SEGMENTATION, VIDEO, BACKBONES)
#: Networks that `trace` refuses: it cannot follow their code without data, or they split the batch.
REFUSED = [*DETECTION, *OPTICAL_FLOW]


def sizes(name: str) -> Result:
    """The network at its usual size, without data: groups, blocks, parameters, multiply-adds, tracing time."""
    # RegNet computes its widths with tensors, which needs data.
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        model, inputs = build(name, native=True).eval(), example(name, native=True)
    start = time.process_time()
    graph = trace(model, inputs)
    seconds = time.process_time() - start
    groups = [group for group in graph.channels if group.reason is None]
    before, after = cost(graph, Structure.dense(graph)), cost(graph, random_thinning(graph, SHARE))
    return {
        "groups": [len(groups), len(graph.channels)],
        "over_norms": sum(not group.exact for group in groups),
        "blocks": [sum(block.reason is None for block in graph.blocks), len(graph.blocks)],
        "layer_classes": Counter(type(model.get_submodule(block.name)).__name__ for block in graph.layers),
        "params": [before.params, after.params],
        "macs": [before.macs, after.macs],
        "trace_seconds": seconds,
        "unknown": list(graph.unknown),
    }


def together(model: torch.nn.Module, graph: ModelGraph, inputs: tuple[Any, ...]) -> Result:
    """Compare with all groups pruned at once: outputs in eval and train mode, and gradients; then with fewer layers."""
    structure = random_thinning(graph, SHARE)
    start = time.process_time()
    small = compact(model, graph, structure)
    found: Result = {"compact_seconds": time.process_time() - start}
    found["evaluation"] = compare_safely(lambda: agreement(model, small, graph, structure, inputs))
    found["gradients"] = compare_safely(lambda: gradient_difference(model, small, graph, structure, inputs))
    model.train()
    found["training"] = compare_safely(lambda: agreement(model, small, graph, structure, inputs))
    model.eval()
    if graph.layers:
        fewer = random_layer_removal(graph, SHARE)
        found["layers"] = compare_safely(lambda: agreement(model, compact(model, graph, fewer), graph, fewer, inputs))
    return found


def compare_safely(compare: Callable[[], Agreement | float]) -> Result:
    """The error and whether it counts as exact, or the exception that was raised."""
    try:
        found = compare()
    except Exception as error:  # every failure goes into the table
        return {"failed": first_line(error)}
    if isinstance(found, Agreement):
        return {"error": found.error, "exact": found.exact}
    return {"error": found, "exact": found < 1e-6}


def first_line(error: Exception) -> str:
    """The first line of an exception."""
    return f"{type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}"


def alone(names: Iterable[str], check: Callable[[str], Agreement | None], limit: float) -> Result:
    """Check groups or blocks one by one: how many agree, the largest error, the smallest effect, and the failures.

    `check` raises an exception if one fails, and returns None if only shapes are compared. `idle` lists those that no
    output depends on.
    """
    names, until = list(names), time.monotonic() + limit
    found: list[Agreement | None] = []
    failures, idle = [], []
    for name in names:
        if time.monotonic() > until:
            break
        try:
            found.append(check(name))
        except Exception as error:  # every failure goes into the table
            failures.append(f"{name}: {first_line(error)}")
        else:
            if found[-1] is not None and found[-1].error == found[-1].effect == 0:
                idle.append(name)
            elif found[-1] is not None and not found[-1].exact:
                failures.append(f"{name}: error {found[-1].error:.0e}, effect {found[-1].effect:.0e}")
    compared = [one for one in found if one is not None]
    return {
        "of": len(names),
        "limit": limit,
        "done": len(found) + sum(": error " not in failure for failure in failures),
        "fit": len(found) - len(compared),
        "exact": sum(one.exact for one in compared),
        "error": max((one.error for one in compared), default=None),
        "effect": min((one.effect for one in compared), default=None),
        "failures": failures,
        "idle": idle,
    }


def removable(graph: ModelGraph) -> tuple[list[str], list[str]]:
    """The names of the groups and blocks that can be pruned."""
    groups = [group.name for group in graph.channels if group.reason is None and group.size > 1]
    return groups, [block.name for block in graph.blocks if block.reason is None]


def measure(name: str, limit: float) -> Result:
    """Measure one network. For huge ones, values are compared only all together, and one by one only shapes."""
    result: Result = {"name": name, "torch": torch.__version__} | sizes(name)
    start = time.process_time()
    model, inputs = distinct_example(name)
    graph = trace(model, inputs)
    groups, blocks = removable(graph)
    if name in HUGE:
        structure = random_thinning(graph, SHARE)
        clock = time.process_time()
        small = compact(model, graph, structure)
        result["compact_seconds"] = time.process_time() - clock
        result["evaluation"] = compare_safely(lambda: agreement(model, small, graph, structure, inputs))
        del small
        check_shapes = ShapeCheck(model.to("meta"), graph, tuple(x.to("meta") for x in inputs))
        result["groups_alone"] = alone(groups, lambda g: check_shapes(random_thinning(graph, SHARE, only=[g])), limit)
        result["blocks_alone"] = alone(blocks, lambda b: check_shapes(Structure.dense(graph).remove_block(b)), limit)
    else:
        try:
            result |= together(model, graph, inputs)
        except SurgeryError as error:
            result["evaluation"] = {"failed": first_line(error)}
        with torch.no_grad():
            dense = outputs(model(*first_only(inputs)))
        seeds = {group: seed for seed, group in enumerate(groups)}
        reference = {"dense": dense, "gradients": False}
        result["groups_alone"] = alone(
            groups, lambda g: group_agreement(model, graph, inputs, g, seeds[g], **reference), limit
        )
        result["blocks_alone"] = alone(blocks, lambda b: block_agreement(model, graph, inputs, b, **reference), limit)
    return result | {"seconds": time.process_time() - start}


class ShapeCheck:
    """Checks, without data, that a pruned network has outputs of the dense one's shapes."""

    def __init__(self, model: torch.nn.Module, graph: ModelGraph, inputs: tuple[Any, ...]) -> None:
        self.model, self.graph, self.inputs = model, graph, inputs
        torch.backends.mha.set_fastpath_enabled(False)  # it cannot run without data
        self.shapes = self._shapes(model)

    def _shapes(self, network: torch.nn.Module) -> list[torch.Size]:
        with torch.no_grad():
            return [tensor.shape for tensor in outputs(network(*self.inputs))]

    def __call__(self, structure: Structure) -> None:
        found = self._shapes(compact(self.model, self.graph, structure))
        if found != self.shapes:
            raise ValueError(f"returns {found}, not {self.shapes}")


def refusal(name: str) -> Result:
    """The error of `trace` or `compact` for a detection or optical-flow network, which they cannot follow."""
    model = build(name).eval()
    inputs = ([torch.rand(3, 320, 320)],) if name in DETECTION else example(name, batch=2)
    try:
        graph = trace(model, inputs)
        compact(model, graph, random_thinning(graph, SHARE))
    except TickdslError as error:
        return {"name": name, "refused": textwrap.shorten(str(error).splitlines()[0], 150, placeholder=" …")}
    return {"name": name, "refused": f"not refused ({plural(len(graph.channels), 'group')}): add it to the zoo"}


def read(path: Path) -> dict[str, Result]:
    """The last result of each network in the results file."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {result["name"]: result for result in map(json.loads, lines)}


def should_measure_again(result: Result, limit: float) -> bool:
    """Whether a network should be measured again: it failed, or a higher limit lets it run further."""
    if "failed" in result:
        return True
    parts = [result[key] for key in ("groups_alone", "blocks_alone") if key in result]
    return any(part["done"] < part["of"] and part["limit"] < limit for part in parts)


def all_names() -> list[str]:
    """The names of all networks by kind, each kind smallest first, then those that are refused."""

    def size(name: str) -> int:
        weights = models.get_model_weights(name.removesuffix(".backbone"))
        return int(next(iter(weights)).meta["num_params"])

    return [name for kind in KINDS for name in sorted(kind, key=size)] + REFUSED


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="measure these networks, even if they have results")
    parser.add_argument("--all", action="store_true", help="measure every network without complete results")
    parser.add_argument("--share", default="1/1", metavar="K/N", help="with --all, measure every Nth, from the Kth")
    parser.add_argument("--table", action="store_true", help="print the results as tables")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help="results file")
    parser.add_argument("--limit", type=float, default=float("inf"), metavar="SECONDS", help="time limit per network")
    options = parser.parse_args()
    measured = read(options.results)
    names = options.names
    if options.all:
        first, step = map(int, options.share.split("/"))
        names = [
            name
            for name in all_names()[first - 1 :: step]
            if name not in measured or should_measure_again(measured[name], options.limit)
        ]
    options.results.parent.mkdir(parents=True, exist_ok=True)
    for name in names:
        try:
            result = refusal(name) if name in REFUSED else measure(name, options.limit)
        except Exception as error:  # record the failure and go on with the next network
            result = {"name": name, "failed": first_line(error)}
        with options.results.open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(json.dumps(result) if "refused" in result or "failed" in result else row(result), flush=True)
    if options.table:
        print(table(measured, KINDS, REFUSED))


if __name__ == "__main__":
    main()
