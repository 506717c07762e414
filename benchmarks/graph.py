"""Structured removal with tickdsl and with Torch-Pruning, on the same networks.

    python benchmarks/graph.py [--all | NAME …] [--share 0.5]
    python benchmarks/graph.py --flops 0.6 [NAME …]

Torch-Pruning is compared with if it is installed: `pip install --no-deps torch-pruning`.

Both remove the same share of every group of channels from torchvision networks with random weights, without any help:
`tickdsl` traces the graph and removes random channels, `tickdsl.prune` and `torch-pruning` score them by L2 norms. With
`--flops`, `tickdsl.prune` removes a share of the FLOPs of each network. The time is the CPU time of the whole call,
since wall time is unreliable on a shared machine, in a separate process with one thread, after a warm-up network, the
minimum of a few rounds. The error is that of the small network's outputs against those of the dense network with the
removed inputs of every layer set to zero and layer norms over the remaining channels, in double precision. Which inputs
were removed is read from the weights.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

import tickdsl
from tickdsl.graph import Structure, compact, cost, trace
from tickdsl.plurals import plural

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
from graph_oracle import NormOverKept, make_weights_distinct, outputs, random_thinning, relative_difference

DEFAULT = (
    "resnet18", "resnet50", "vgg16_bn", "mobilenet_v2", "efficientnet_b0", "resnext50_32x4d", "googlenet",
    "shufflenet_v2_x1_0", "convnext_tiny", "vit_b_16", "swin_t", "maxvit_t", "densenet121", "densenet201",
)  # fmt: skip
#: The maximum number of rounds, and the seconds after which no further round starts.
ROUNDS, TIME_BUDGET = 5, 8.0
#: Seconds of wall time after which a tool is stopped.
LIMIT = 300


def build(name: str) -> tuple[nn.Module, Tensor]:
    from tickdsl.training.torchvision_import import import_torchvision

    models = import_torchvision().models
    options: dict[str, object] = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    options |= {"weights_backbone": None} if name.startswith("fcn") else {}
    torch.manual_seed(0)
    size = 299 if name == "inception_v3" else 224
    model = make_weights_distinct(models.get_model(name, **options).double()).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # make values distinct: they repeat in single precision
            parameter.add_(1e-6 * torch.rand_like(parameter))
    return model, torch.randn(1, 3, size, size, dtype=torch.float64)


#: The networks of NVIDIA's FastNAS benchmark, for targets in FLOPs.
FLOPS_TARGETS = (
    "resnet18", "vgg16_bn", "densenet121", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0",
    "shufflenet_v2_x0_5", "squeezenet1_1", "googlenet", "inception_v3", "resnext50_32x4d", "regnet_y_400mf",
    "mnasnet1_0", "convnext_tiny", "vit_b_16", "swin_t", "maxvit_t", "alexnet", "wide_resnet50_2", "fcn_resnet50",
)  # fmt: skip


def by_tickdsl(model: nn.Module, inputs: Tensor, share: float) -> nn.Module:
    graph = trace(model, inputs)
    return compact(model, graph, random_thinning(graph, share))


def by_prune(model: nn.Module, inputs: Tensor, share: float) -> nn.Module:
    return tickdsl.prune(model, inputs, share, unit="channels", scope="local")


def to_flops(model: nn.Module, inputs: Tensor, share: float) -> nn.Module:
    return tickdsl.prune(model, inputs, share, unit="channels", target="flops")


def by_torch_pruning(model: nn.Module, inputs: Tensor, share: float) -> nn.Module:
    import torch_pruning

    heads = [m for m in model.modules() if 1000 in (getattr(m, "out_features", 0), getattr(m, "out_channels", 0))]
    torch_pruning.pruner.BasePruner(
        model,
        (inputs,),
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=share,
        ignored_layers=heads,
    ).step()
    return model


TOOLS: dict[str, Callable[[nn.Module, Tensor, float], nn.Module]] = {
    "tickdsl": by_tickdsl,
    "tickdsl.prune": by_prune,
    "tickdsl-flops": to_flops,
    "torch-pruning": by_torch_pruning,
}


def kept_indices(old: Tensor, new: Tensor) -> list[Tensor]:
    """The indices of `new` in `old` for each dimension; all values of `old` are distinct."""
    values, order = old.flatten().sort()
    kept = []
    for dim in range(old.ndim):
        line = new
        for other in range(old.ndim):
            if other != dim:
                line = line.narrow(other, 0, 1)
        positions = order[torch.searchsorted(values, line.flatten()).clamp_max(len(values) - 1)]
        kept.append(torch.stack(torch.unravel_index(positions, old.shape))[dim])
    selected = old
    for dim, index in enumerate(kept):
        selected = selected.index_select(dim, index)
    if not torch.equal(selected, new):
        raise ValueError("remaining weights were changed")
    return kept


def with_removed_inputs_zeroed(dense: nn.Module, small: nn.Module) -> nn.Module:
    """The dense network, with the inputs that the small one lacks set to zero."""
    left = dict(small.named_parameters())
    for path, module in list(dense.named_modules()):
        for name, weight in module.named_parameters(path, recurse=False):
            if weight.ndim > 1 and "weight" in name and left[name].shape != weight.shape:
                kept = kept_indices(weight.detach(), left[name].detach())
                columns = 0 if isinstance(module, nn.ConvTranspose2d) else 1
                removed = torch.ones(weight.shape[columns], dtype=torch.bool)
                removed[kept[columns]] = False
                weight.data.index_fill_(columns, removed.nonzero().flatten(), 0)
        if isinstance(module, nn.LayerNorm) and left[f"{path}.weight"].shape != module.weight.shape:
            kept = kept_indices(module.weight.detach(), left[f"{path}.weight"].detach())[0]
            second = type(module).__name__ == "LayerNorm2d"
            dense.set_submodule(path, NormOverKept(module, kept.numpy(), second))
    return dense


def measure(tool: str, name: str, share: float) -> dict[str, object]:
    """Measure a tool on a network: CPU seconds, share of parameters left, error; fails if it does not train."""
    torch.set_num_threads(1)
    warm, example = build("squeezenet1_1")
    TOOLS[tool](warm, example, share)
    model, inputs = build(name)
    before = sum(parameter.numel() for parameter in model.parameters())
    rounds: list[float] = []
    while len(rounds) < ROUNDS and sum(rounds) < TIME_BUDGET:
        fresh = copy.deepcopy(model)
        gc.collect()
        start = time.process_time()
        small = TOOLS[tool](fresh, inputs, share)
        rounds.append(time.process_time() - start)
    small.eval()
    after = sum(parameter.numel() for parameter in small.parameters())
    with torch.no_grad():
        error = relative_difference(small(inputs), with_removed_inputs_zeroed(build(name)[0], small)(inputs))
    small.train()
    trained = outputs(small(torch.cat([inputs, inputs])))
    sum(tensor.square().mean() for tensor in trained).backward()
    result = {"seconds": min(rounds), "left": after / before, "error": error}
    if tool == "tickdsl-flops":
        graph = trace(model, inputs)
        remaining = cost(graph, tickdsl.structure_of(small)).macs
        result["flops"] = 1 - remaining / cost(graph, Structure.dense(graph)).macs
    return result


def run(tool: str, name: str, share: float) -> dict[str, object]:
    """Run `measure` in a separate process, with a time limit; a failure is returned as text."""
    if tool == "torch-pruning" and find_spec("torch_pruning") is None:
        return {"failed": "not available"}
    command = [sys.executable, __file__, name, "--tool", tool, "--share", str(share)]
    try:
        completed = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return {"failed": f"timed out after {LIMIT} s"}
    lines = (completed.stdout if completed.returncode == 0 else completed.stderr).strip().splitlines()
    if completed.returncode:
        return {"failed": lines[-1][:60] if lines else "killed"}
    return dict(json.loads(lines[-1]))


def cell(result: dict[str, object]) -> str:
    if "failed" in result:
        return f"{result['failed']}"
    text = f"{result['seconds']:6.2f} s  {100 * float(str(result['left'])):3.0f} %  error {result['error']:.0e}"
    return text + (f"  {100 * float(str(result['flops'])):.2f} % of the FLOPs removed" if "flops" in result else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=None, metavar="NAME", help="networks (default: a selection)")
    parser.add_argument("--all", action="store_true", help="all of torchvision's networks")
    parser.add_argument("--share", type=float, default=0.5, help="share of channels to remove (default: %(default)s)")
    parser.add_argument("--tool", choices=TOOLS)
    parser.add_argument(
        "--flops", type=float, metavar="SHARE", help="remove this share of the FLOPs, with tickdsl only"
    )
    options = parser.parse_args()
    if options.tool:
        print(json.dumps(measure(options.tool, options.names[0], options.share)))
        return
    if options.flops:
        for name in options.names or FLOPS_TARGETS:
            print(f"{name:20} {cell(run('tickdsl-flops', name, options.flops))}", flush=True)
        return
    names = options.names or list(DEFAULT)
    if options.all:
        from tickdsl.training.torchvision_import import import_torchvision

        models = import_torchvision().models
        names = models.list_models(module=models)
    compared = ("tickdsl", "tickdsl.prune", "torch-pruning")
    exact_counts, ratios = dict.fromkeys(compared, 0), []
    print(f"{'network':20} {'tickdsl':34} {'tickdsl.prune':34} torch-pruning")
    for name in names:
        results = {tool: run(tool, name, options.share) for tool in compared}
        for tool, result in results.items():
            exact_counts[tool] += "failed" not in result and float(str(result["error"])) < 1e-4
        ours, theirs = (results[tool].get("seconds") for tool in ("tickdsl.prune", "torch-pruning"))
        ratio = float(str(theirs)) / float(str(ours)) if ours and theirs else None
        ratios += [ratio] if ratio else []
        cells = " ".join(f"{cell(result):34}" for result in results.values())
        print(f"{name:20} {cells}{f' x {ratio:.1f}' if ratio else ''}", flush=True)
    for tool, count in exact_counts.items():
        if tool == "torch-pruning" and find_spec("torch_pruning") is None:
            continue
        print(f"{tool}: {count} of {plural(len(names), 'network')} pruned exactly, and trainable")
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        print(f"torch-pruning takes {mean:.1f} times as long as tickdsl.prune (geometric mean)")


if __name__ == "__main__":
    main()
