"""What operations share in one process: networks with their graphs, data, and results of other steps."""

from __future__ import annotations

import functools
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tickdsl import __version__
from tickdsl.engine.building import TRACE_BATCH_SIZE
from tickdsl.engine.dense_networks import DenseNetwork, dense_network
from tickdsl.engine.hooks import Hooks
from tickdsl.engine.layers import remaining_by_layer
from tickdsl.engine.machine.machine_choices import machine_choices
from tickdsl.errors import TickdslError
from tickdsl.graph.costs import cost
from tickdsl.graph.indexing import remaining_weights
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact, compact_masks, slice_state_dict
from tickdsl.plan.steps import Step
from tickdsl.plugins import PluginError
from tickdsl.pruning.scope import remaining_unit_share
from tickdsl.pruning.transfer import transfer_structure
from tickdsl.records.canonical import canonical_json
from tickdsl.records.process import host_name
from tickdsl.records.store import Result, Store
from tickdsl.training.catalogue import DATASETS, architecture_options
from tickdsl.training.data import datasets

Metrics = dict[str, Any]

WEIGHTS, STRUCTURE = "weights.safetensors", "structure.safetensors"


@attrs.frozen
class Settings:
    """How a run works, as opposed to what it computes: none of it is part of a step's key."""

    store: Path
    data: Path
    device: str = "cpu"
    threads: int = 1
    jobs: int = 1
    checkpoint_seconds: float = 30.0
    #: How many trainings of equal shape are one stacked network; None: as many as come, where that was measured to pay.
    stack: int | None = 1
    #: Whether quoted names of plans run code.
    allow_code: bool = False


class Context:
    """One process's view of the store, with what is dear to build kept at hand."""

    def __init__(self, settings: Settings, hooks: Hooks | None = None) -> None:
        self.settings = settings
        self.hooks = hooks or Hooks()
        self.store = Store(settings.store, warn=lambda message: self.hooks.warn(message))
        self.device = torch.device(settings.device)
        self.choices = machine_choices(self.store.root, lambda message: self.hooks.log(message))
        self._datasets: dict[bytes, datasets.Dataset] = {}

    # -- data and networks

    def dataset(self, spec: Mapping[str, Any], seed: int | None) -> datasets.Dataset:
        """The data set of a step, cut down to its part where the step names one."""
        part = spec.get("part")
        key = canonical_json(
            {"name": spec["name"], "options": spec["options"], "part": part, "seed": seed if part else None}
        )
        if key not in self._datasets:
            if part is None:
                dataset = datasets.load(spec["name"], root=self.settings.data, options=spec["options"])
                if spec["name"] not in DATASETS.builtin and dataset.fingerprint != spec["fingerprint"]:
                    message = f"`{spec['name']}` gives other data than when the plan was read"
                    raise PluginError(message, "let it give the same at each call; fix the seeds of what it draws")
            else:
                whole = self.dataset({**spec, "part": None}, None)
                dataset = datasets.take_part(
                    whole, by=part["by"], parts=part["parts"], index=part["index"], seed=seed or 0
                )
            self._datasets[key] = dataset
        return self._datasets[key]

    def dense_network(self, step: Step) -> DenseNetwork:
        """The dense network of a step, with its graph."""
        data = self.dataset(step.args["data"], step.seed)
        model = step.args["model"]
        shape = tuple(data.train_images.shape[1:])
        return dense_network(model["name"], canonical_json(architecture_options(model["options"])), data.classes, shape)

    # -- results of other steps

    def structure(self, key: str | None, graph: ModelGraph) -> Structure:
        """The structure that a step left; that of no step is the dense network's."""
        if key is None:
            return Structure.dense(graph)
        # A part's network differs from the whole's in its classifier; what was removed is the same.
        return transfer_structure(_load_structure(str(self._result(key).folder / STRUCTURE)), graph)

    def _result(self, key: str) -> Result:
        """The result of a step, its files compared with what was written."""
        if not self.store.check(key):
            raise TickdslError(
                f"the result {key[:8]} that this step rests on is damaged or was removed",
                "run the plan again: it is made anew",
            )
        return self.store.get(key)

    def step_parts(self, key: str) -> dict[str, Any]:
        """What made a result: the parts of its step."""
        parts: dict[str, Any] = self._result(key).data["parts"]
        return parts

    def weights(self, key: str, target: Structure, graph: ModelGraph) -> dict[str, Tensor]:
        """The state dict that a step left, sliced to a structure: this is what rewinding is."""
        result = self._result(key)
        state: dict[str, Tensor] = load_file(result.folder / WEIGHTS)
        source = self.structure(result.data["parts"]["parents"].get("structure"), graph)
        return slice_state_dict(graph, state, source, target)

    def module(self, network: DenseNetwork, structure: Structure, state: Mapping[str, Tensor]) -> nn.Module:
        """An ordinary network of that structure with those weights."""
        module = compact(network.module, network.graph, structure)
        module.load_state_dict(dict(state))
        return module

    # -- results of this one

    def store_result(self, step: Step, work: Callable[[Path], Metrics], began: float, shared_by: int = 1) -> Metrics:
        """Store as a step's result what `work` leaves in the folder given to it, and the metrics that it gives back.

        Of the time since `began` (monotonic), which so many steps took together, it counts for an equal share.
        """
        with self.store.writing(step.key) as draft:
            metrics = work(draft.folder)
            draft.finish(result_record(step, metrics, (time.monotonic() - began) / shared_by, self))
        return metrics


@functools.lru_cache(maxsize=64)
def _load_structure(path: str) -> Structure:
    return Structure.load(Path(path))


def save_weights(folder: Path, state: Mapping[str, Tensor]) -> None:
    """Weights as safetensors, on the CPU, in plain memory layout."""
    plain = {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in state.items()}
    save_file(plain, folder / WEIGHTS)


def structure_metrics(graph: ModelGraph, structure: Structure) -> dict[str, Any]:
    """What is left of a network: `params` without masked weights, `macs` a picture of the network that runs, `sparsity`
    as the share of convolution and linear weights that is gone, `filters`, `neurons` and `layers` as the shares left,
    `left` layer by layer.
    """
    left = remaining_weights(graph, structure)
    dense_weights = sum(whole for _, whole in left.values())
    kept_weights = sum(part for part, _ in left.values())
    remaining_cost = cost(graph, structure)
    masked = sum(int((~mask).sum()) for mask in compact_masks(graph, structure).values())
    unit_shares = {unit: remaining_unit_share(graph, structure, unit) for unit in ("filters", "neurons", "layers")}
    return {
        "params": int(remaining_cost.params) - masked,
        "macs": int(remaining_cost.macs) // TRACE_BATCH_SIZE,
        "sparsity": 1 - kept_weights / dense_weights,
        **unit_shares,
        "left": remaining_by_layer(graph, structure),
    }


def result_record(step: Step, metrics: Mapping[str, Any], seconds: float, context: Context) -> dict[str, Any]:
    """What is kept of a step beside the files of its result."""
    return {
        "operation": step.operation,
        "parts": step.parts,
        "metrics": metrics,
        "seconds": round(seconds, 3),
        "made": {
            "tickdsl": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "host": host_name(),
            "device": str(context.device),
            "threads": context.settings.threads,
        },
    }


def required_seed(step: Step) -> int:
    """The seed of a step that must have one."""
    if step.seed is None:
        raise ValueError(f"the {step.operation} step needs a seed")
    return step.seed
