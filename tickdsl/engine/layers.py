"""The layers of the networks of a plan, and what a structure leaves of them, for monitors and reports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tickdsl.engine.network_specs import spec_of_arm, specs_of_plan
from tickdsl.graph.indexing import all_kept_indices, remaining_weights
from tickdsl.graph.layer_tree import GraphView
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.plan.model import Plan
from tickdsl.records import events


def network_events(plan: Plan, data: Path | None) -> Iterator[events.Network]:
    """An event for each different dense network of the arms."""
    for spec in specs_of_plan(plan, data):
        view = spec.view()
        yield events.Network(
            arms=tuple(arm.id for arm in plan.arms if spec_of_arm(arm, data) == spec),
            model=spec.model,
            params=int(view.dense.params),
            macs=int(view.dense.macs),
            layers=tuple(_layer_infos(view)),
        )


def _layer_infos(view: GraphView) -> Iterator[events.LayerInfo]:
    weights: dict[str, int] = {}
    for name, (_, dense) in remaining_weights(view.graph, Structure.dense(view.graph)).items():
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


def remaining_by_layer(graph: ModelGraph, structure: Structure) -> dict[str, dict[str, int]]:
    """The `outputs` and `weights` that are left, by module path; only for layers that lost some."""
    outputs: dict[str, int] = {}
    weights: dict[str, int] = {}
    dense_by_layer: dict[str, int] = {}
    kept = all_kept_indices(graph, structure)
    for name, (kept_weights, dense_weights) in remaining_weights(graph, structure).items():
        path = graph.weights[name].module
        weights[path] = weights.get(path, 0) + kept_weights
        dense_by_layer[path] = dense_by_layer.get(path, 0) + dense_weights
        if not kept_weights:
            outputs.setdefault(path, 0)
            continue
        output_dims = {
            group_slice.dim for _, group_slice in graph.slices.get(name, ()) if group_slice.role == "producer"
        }
        for dim in output_dims:
            index = kept[name][dim] if name in kept else None
            if index is not None:
                outputs[path] = len(index)
    return {
        "outputs": outputs,
        "weights": {
            path: remaining_weights
            for path, remaining_weights in weights.items()
            if remaining_weights < dense_by_layer[path]
        },
    }
