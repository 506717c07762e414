"""A network as JSON: its layers, the preview, and the graph in the format of `ModelGraph.from_json`."""

from __future__ import annotations

import json
from typing import Any

import attrs

from tickdsl.engine.network_specs import NetworkSpec
from tickdsl.graph.layer_tree import GraphView, Layer
from tickdsl.inspect.uniform_pruning import Preview


def as_json(spec: NetworkSpec, view: GraphView, preview: Preview | None) -> dict[str, Any]:
    """The JSON object of one network; costs are per image."""
    return {
        "model": spec.model,
        "options": dict(spec.options),
        "data": spec.data,
        "shape": list(spec.shape),
        "classes": spec.classes,
        "cost": attrs.asdict(view.dense),
        "layers": [_layer_json(view, layer) for layer in view.layers],
        "prune_layers": [block.name for block in view.graph.layers],
        "preview": None if preview is None else attrs.asdict(preview),
        "graph": json.loads(view.graph.to_json()),
    }


def _layer_json(view: GraphView, layer: Layer) -> dict[str, Any]:
    return {
        "path": layer.path,
        "kind": layer.kind,
        "folded": list(layer.folded),
        "inputs": layer.inputs,
        "outputs": layer.outputs,
        "groups": [group.name for group in layer.groups],
        "fixed": [group.reason for group in layer.groups if group.reason is not None],
        "params": layer.params,
        "macs": layer.macs,
        "params_share": layer.params / view.dense.params if view.dense.params else 0.0,
        "macs_share": layer.macs / view.dense.macs if view.dense.macs else 0.0,
        "blocks": [{"name": block.name, "reason": block.reason} for block in layer.blocks],
    }
