"""Forecast what is left of a network at each level of an arm, without training it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tickdsl.engine.dense_networks import dense_network
from tickdsl.engine.graph_cache import image_shape_and_classes
from tickdsl.engine.steps.network_size import structure_metrics
from tickdsl.errors import TickdslError
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import slice_state_dict
from tickdsl.plan.arm_lowering import is_one_level
from tickdsl.plan.model import Arm, Matching
from tickdsl.plan.prune_arguments import prune_args
from tickdsl.plan.study import Study
from tickdsl.pruning.criteria import ScoringContext, get_criterion
from tickdsl.pruning.selection import prune
from tickdsl.records.canonical import canonical_json
from tickdsl.training.catalogue import architecture_options


def forecast_levels(study: Study, arm: Arm, data: Path) -> list[dict[str, Any]]:
    """The structure metrics of each level of an arm, if the untrained network is pruned.

    Counts of removed units are exact; parameters and multiply-adds are estimates if the ranking is global. The list
    ends early if a level cannot be forecast.
    """
    shape, classes = image_shape_and_classes(arm.data, data)
    network = dense_network(arm.model.name, canonical_json(architecture_options(arm.model.options)), classes, shape)
    structure = Structure.dense(network.graph)
    dense_state = network.module.state_dict()
    rows = [structure_metrics(network.graph, structure)]
    levels = [level for level in study.levels if level.arm == arm.id and level.seed == study.plan.seeds[0]]
    for group in arm.rounds:
        if isinstance(group.prune.amount, Matching):
            return rows  # what the other arm removes is known only after it has run
        times = group.prune.times if group.prune.until is None and group.prune.ends is None else len(levels)
        for index in range(times or len(levels)):
            args = prune_args(group.prune, index, times or 1, head=arm.protects_head)
            state = slice_state_dict(network.graph, dense_state, Structure.dense(network.graph), structure)
            try:
                scoring_context = ScoringContext(network.graph, structure, state, torch.Generator().manual_seed(0))
                structure = prune(scoring_context, {**args, "by": _forecast_criterion(args["by"])})
            except TickdslError:
                return rows
            if not group.joined and (not is_one_level(group) or index == (times or 1) - 1):
                rows.append(structure_metrics(network.graph, structure))
    return rows


def _forecast_criterion(by: str) -> str:
    """The criterion of a forecast: magnitude in place of criteria that run the network."""
    return "magnitude" if get_criterion(by).runs_network else by
