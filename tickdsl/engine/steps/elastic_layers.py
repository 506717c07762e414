"""The network that a stretched or squeezed ticket comes from, and the layers here that its layers are carried to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from tickdsl.engine.dense_networks import DenseNetwork
from tickdsl.engine.steps.context import Context
from tickdsl.plan.steps import Step
from tickdsl.pruning.elastic import BlockMap, block_map
from tickdsl.pruning.scope import layer_names, matches_any


def carried_from(
    step: Step, context: Context, network: DenseNetwork, rule: Mapping[str, Any]
) -> tuple[DenseNetwork, BlockMap]:
    """The network that `rule` names as its `source`, and which of its blocks comes to which place of this one."""
    source = context.dense_network(attrs.evolve(step, args={**step.args, "model": rule["source"]}))
    return source, block_map(source.graph, network.graph, rule)


def with_own_layers(step: Step, context: Context, network: DenseNetwork) -> Step:
    """A step whose `in` and `except` name the layers of its own network, if they name those of another one."""
    if "elastic" not in step.args:
        return step
    _, mapping = carried_from(step, context, network, step.args["elastic"])
    names = layer_names(network.graph)

    def translated(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {
                key: [name for name in names if matches_any(item, mapping.source_of(name))]
                if key in ("within", "protect")
                else translated(item)
                for key, item in value.items()
            }
        return [translated(item) for item in value] if isinstance(value, list | tuple) else value

    own = {key: value for key, value in step.args.items() if key not in ("elastic", "model", "data")}
    return attrs.evolve(step, args={**step.args, **translated(own)})
