"""Prepare the study of a plan: its steps, with the fingerprints of the data and the numbers of rounds."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import attrs

from tickdsl.engine.compared_metric import require_known_metric
from tickdsl.engine.graph_cache import DEFAULT_DATA_DIR, dense_graph, task_of
from tickdsl.engine.judging_labels import require_labels
from tickdsl.engine.machine.precision import resolve_precision
from tickdsl.engine.plan_tickets import base_structure, is_ticket
from tickdsl.engine.run_masks import find_mask
from tickdsl.engine.steps.surroundings import measurement_context
from tickdsl.engine.task_fit import require_fit
from tickdsl.graph.structure import Structure
from tickdsl.plan.lower import lower
from tickdsl.plan.model import Arm, Data, Model, Plan, Prune
from tickdsl.plan.prune_arguments import prune_args
from tickdsl.plan.study import Study
from tickdsl.pruning.allocation import amounts_by_layer
from tickdsl.pruning.cost_targets import cost_metrics
from tickdsl.pruning.round_forecast import max_rounds, rounds_until
from tickdsl.pruning.scope import find_scope
from tickdsl.records.canonical import canonical_json
from tickdsl.training import weights_files
from tickdsl.training.data import fingerprints
from tickdsl.training.data.file_digests import files_digest
from tickdsl.training.device_choice import Device, resolve_device


def prepare_study(plan: Plan, data: Path | None = None, device: Device | None = None) -> Study:
    """All steps of a plan, to run on `device` (default: the device of `--device auto`).

    Raises TickdslError if a data set or a run is missing, a target cannot be reached, or the plan asks for what the
    task of its data does not have.
    """
    root = data or DEFAULT_DATA_DIR
    device = device or resolve_device("auto")
    plan = resolve_precision(plan, device)

    @functools.cache
    def fingerprint(key: bytes) -> str:
        spec = json.loads(key)
        return fingerprints.fingerprint(spec["name"], root=root, options=spec["options"])

    def fingerprint_of(spec: Data | Model) -> str:
        if isinstance(spec, Model):
            return _weights_digest(spec)
        return fingerprint(canonical_json({"name": spec.name, "options": dict(spec.options)}))

    def rounds(arm: Arm, prune: Prune) -> int:
        if prune.until is None and prune.ends is None:
            return prune.times or 1
        graph = dense_graph(arm, root)
        base = base_structure(arm.model, graph)

        def args(index: int) -> dict[str, Any]:
            return dict(amounts_by_layer(graph, base, prune_args(prune, index, 1, head=arm.protects_head)))

        prunable = find_scope(graph, base, args(0))
        if prune.until is None:
            return max_rounds(prunable, args)
        # How much of another network a ticket is, after a stretch or squeeze, only the run tells.
        is_open = arm.elastic is not None
        needed = max_rounds(prunable, args) if is_open else rounds_until(prunable, args, float(prune.until))
        return min(needed, prune.times) if prune.times is not None else needed

    def task(model: Model, spec: Data) -> str:
        return task_of(model, spec, root)

    def dense_cost(arm: Arm) -> dict[str, float]:
        graph = dense_graph(attrs.evolve(arm, model=arm.judged_model), root)
        return cost_metrics(graph, Structure.dense(graph))

    require_fit(plan, task)
    require_known_metric(plan, root)
    require_labels(plan, root)
    return lower(
        plan,
        fingerprint=fingerprint_of,
        rounds=rounds,
        surroundings=measurement_context(plan, root, device),
        is_ticket=is_ticket,
        task_of=task,
        dense_cost=dense_cost,
        mask_of_run=lambda tail, seed, level: find_mask(tail, level, seed).argument,
    )


def _weights_digest(model: Model) -> str:
    """A digest of the files with the initial weights of a model. Raises TickdslError if they cannot be used."""
    if model.pretrained_folder is not None:
        folder = Path(model.pretrained_folder)
        return files_digest(sorted([*folder.glob("*.safetensors"), folder / "config.json"]))
    path = Path(str(model.weights_file))
    weights_files.inspect(path)
    return files_digest([path])
