"""From a plan to the study that the interpreter walks: data fingerprints and round counts filled in."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import torch

from tickdsl.engine.graphs import DATA, dense_graph
from tickdsl.engine.machine.precision import settled
from tickdsl.engine.steps.measuring import surroundings
from tickdsl.errors import TickdslError
from tickdsl.graph.structure import Structure
from tickdsl.plan.lower import Study, lower, prune_args
from tickdsl.plan.model import Arm, Data, Model, Plan, Prune
from tickdsl.pruning.allocation import allotted
from tickdsl.pruning.amounts import most_rounds, rounds_until
from tickdsl.pruning.scope import scope
from tickdsl.records.canonical import canonical
from tickdsl.training.data import datasets
from tickdsl.training.data.sources import files_digest
from tickdsl.training.devices import pick


def prepare(plan: Plan, data: Path | None = None, device: torch.device | None = None) -> Study:
    """All steps of a plan, which will run on `device` (default: that of `--device auto`).

    Raises TickdslError where a data set is missing or a target out of reach.
    """
    root = data or DATA
    device = device or pick("auto")
    plan = settled(plan, device)

    @functools.cache
    def fingerprint(key: bytes) -> str:
        spec = json.loads(key)
        return datasets.fingerprint(spec["name"], root=root, options=spec["options"])

    def identify(spec: Data | Model) -> str:
        if isinstance(spec, Model):
            return _weights(spec)
        return fingerprint(canonical({"name": spec.name, "options": dict(spec.options)}))

    def rounds(arm: Arm, prune: Prune) -> int:
        if prune.until is None and prune.ends is None:
            return prune.times or 1
        graph = dense_graph(arm, root)
        dense = Structure.dense(graph)

        def args(index: int) -> dict[str, Any]:
            return dict(allotted(graph, dense, prune_args(prune, index, 1, head=arm.spares_head)))

        found = scope(graph, dense, args(0))
        if prune.until is None:
            return most_rounds(found, args)
        needed = rounds_until(found, args, float(prune.until))
        return min(needed, prune.times) if prune.times is not None else needed

    return lower(plan, fingerprint=identify, rounds=rounds, surroundings=surroundings(plan, root, device))


def _weights(model: Model) -> str:
    """What identifies the file that a model's weights come from."""
    path = Path(str(model.weights_file))
    if not path.is_file():
        raise TickdslError(f"there are no weights at {path}", "paths are relative to the folder where tickdsl runs")
    return files_digest([path])
