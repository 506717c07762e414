"""The layers of a study's networks, and what a structure leaves of them: what monitors and reports draw."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tickdsl.engine.network_specs import of_plan, subject
from tickdsl.graph.layer_tree import GraphView
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure, all_kept_indices, remaining
from tickdsl.plan.model import Plan
from tickdsl.records import events


def networks(plan: Plan, data: Path | None) -> Iterator[events.Network]:
    """The dense network of every arm, each network once."""
    for found in of_plan(plan, data):
        view = found.view()
        yield events.Network(
            arms=tuple(arm.id for arm in plan.arms if subject(arm, data) == found),
            model=found.model,
            params=int(view.dense.params),
            macs=int(view.dense.macs),
            layers=tuple(_layers(view)),
        )


def _layers(view: GraphView) -> Iterator[events.LayerInfo]:
    weights: dict[str, int] = {}
    for name, (_, dense) in remaining(view.graph, Structure.dense(view.graph)).items():
        path = view.graph.weights[name].module
        weights[path] = weights.get(path, 0) + dense
    for layer in view.layers:
        if layer.path in weights:
            yield events.LayerInfo(
                path=layer.path,
                kind=layer.kind,
                outputs=layer.outputs or 0,
                weights=weights[layer.path],
                macs=layer.macs,
                group=next((view.labels[group.name] for group in layer.groups if group.name in view.labels), ""),
            )


def left_of_layers(graph: ModelGraph, structure: Structure) -> dict[str, dict[str, int]]:
    """`outputs` and `weights` that are left, by the path of each layer that lost some."""
    outputs: dict[str, int] = {}
    weights: dict[str, int] = {}
    dense: dict[str, int] = {}
    kept = all_kept_indices(graph, structure)
    for name, (left, whole) in remaining(graph, structure).items():
        path = graph.weights[name].module
        weights[path] = weights.get(path, 0) + left
        dense[path] = dense.get(path, 0) + whole
        if not left:
            outputs.setdefault(path, 0)
            continue
        produced = {piece.dim for _, piece in graph.slices.get(name, ()) if piece.role == "producer"}
        for dim in produced:
            index = kept[name][dim] if name in kept else None
            if index is not None:
                outputs[path] = len(index)
    return {"outputs": outputs, "weights": {path: left for path, left in weights.items() if left < dense[path]}}
