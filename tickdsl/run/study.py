"""From a plan to the study that the interpreter walks: data fingerprints and round counts filled in."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.plan.lower import Study, lower, prune_args
from tickdsl.plan.model import Arm, Data, Plan, Prune
from tickdsl.records.canonical import canonical
from tickdsl.run.networks import network
from tickdsl.tickets.amounts import rounds_until
from tickdsl.tickets.scope import scope
from tickdsl.training import catalogue
from tickdsl.training import data as datasets

#: Where data sets lie unless the plan or a flag says otherwise.
DATA = Path(".tick/data")


def prepare(plan: Plan, data: Path | None = None) -> Study:
    """All steps of a plan. Raises TickdslError where a data set is missing or a target out of reach."""
    root = data or DATA

    @functools.cache
    def fingerprint(key: bytes) -> str:
        spec = json.loads(key)
        return datasets.fingerprint(spec["name"], root=root, options=spec["options"])

    def identify(spec: Data) -> str:
        return fingerprint(canonical({"name": spec.name, "options": dict(spec.options)}))

    def rounds(arm: Arm, prune: Prune) -> int:
        if prune.until is None:
            return prune.times or 1
        graph = dense_graph(arm, root)
        args = prune_args(prune, 0, 1, head=arm.split is not None)
        needed = rounds_until(scope(graph, Structure.dense(graph), args), args, float(prune.until))
        return min(needed, prune.times) if prune.times is not None else needed

    return lower(plan, fingerprint=identify, rounds=rounds)


def dense_graph(arm: Arm, data: Path | None) -> ModelGraph:
    """The model graph of an arm's dense network."""
    shape, classes = pictures(arm.data, data or DATA)
    return network(arm.model.name, canonical(dict(arm.model.options)), classes, shape).graph


@functools.lru_cache(maxsize=16)
def _read(name: str, options: bytes, root: Path) -> tuple[tuple[int, int, int], int]:
    found = datasets.load(name, root=root, options=json.loads(options))
    return found.shape, found.classes


def pictures(data: Data, root: Path) -> tuple[tuple[int, int, int], int]:
    """The shape (C, H, W) and the number of classes of a data set; read only where the catalogue cannot tell."""
    info = catalogue.DATASETS[data.name]
    plain = not set(data.options) - {"path", "samples"}
    if plain and info.shape is not None and info.classes is not None:
        return info.shape, info.classes
    return _read(data.name, canonical(dict(data.options)), root)
