"""Forecast what is left of a network at each level of an arm, without training it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tickdsl.engine.dense_networks import DenseNetwork, dense_network
from tickdsl.engine.graph_cache import image_shape_and_classes
from tickdsl.engine.plan_tickets import base_structure
from tickdsl.engine.steps.network_size import structure_metrics
from tickdsl.errors import TickdslError
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import slice_state_dict
from tickdsl.plan.arm_lowering import is_one_level
from tickdsl.plan.model import Arm, Matching, Prune
from tickdsl.plan.prune_arguments import prune_args
from tickdsl.plan.search_steps import SEARCHED
from tickdsl.plan.study import Study
from tickdsl.pruning.criteria import ScoringContext, get_criterion
from tickdsl.pruning.rounds import prune
from tickdsl.records.canonical import canonical_json
from tickdsl.training.catalogue import architecture_options


def forecast_levels(study: Study, arm: Arm, data: Path) -> list[dict[str, Any]]:
    """The structure metrics of each level of an arm, if the untrained network is pruned.

    Counts of removed units are exact; parameters and multiply-adds are estimates if the ranking is global. The list
    ends early if a level cannot be forecast.
    """
    graph = _network(arm, data).graph
    return [structure_metrics(graph, structure) for structure in _forecast_structures(study, arm, data)]


def _network(arm: Arm, data: Path) -> DenseNetwork:
    shape, classes = image_shape_and_classes(arm.data, data)
    return dense_network(arm.model.name, canonical_json(architecture_options(arm.model.options)), classes, shape)


def _forecast_structures(study: Study, arm: Arm, data: Path) -> list[Structure]:
    """The structure of each level, from the dense network or the ticket on."""
    network = _network(arm, data)
    structure = base_structure(arm.model, network.graph)
    dense_state = network.module.state_dict()
    rows = [structure]
    levels = [level for level in study.levels if level.arm == arm.id and level.seed == study.plan.seeds[0]]
    for group in arm.rounds:
        matched = _matched_structures(study, arm, group.prune, data)
        if matched == []:
            return rows  # the other arm cannot be forecast
        times = group.prune.times if group.prune.until is None and group.prune.ends is None else len(levels)
        times = len(matched) if matched and times is None else times
        for index in range(times or len(levels)):
            args = prune_args(group.prune, index, times or 1, head=arm.protects_head)
            state = slice_state_dict(network.graph, dense_state, Structure.dense(network.graph), structure)
            try:
                scoring_context = ScoringContext(network.graph, structure, state, torch.Generator().manual_seed(0))
                target = matched[min(len(rows), len(matched)) - 1] if matched else None
                structure = prune(scoring_context, {**args, **_forecast_ranking(args)}, target)
            except TickdslError:
                return rows
            if not group.joined and (not is_one_level(group) or index == (times or 1) - 1):
                rows.append(structure)
        rows += [structure] * sum(cycle.times for cycle in group.cycles)  # they prune nothing
    return rows


def _matched_structures(study: Study, arm: Arm, group_prune: Prune, data: Path) -> list[Structure] | None:
    """The structures of the levels of the arm that a prune matches; None if it matches none."""
    if not isinstance(group_prune.amount, Matching):
        return None
    other = study.plan.find_arm(group_prune.amount.arm, arm)
    return _forecast_structures(study, other, data)[1:] if other is not None else []


def _forecast_ranking(args: Mapping[str, Any]) -> dict[str, str]:
    """The criterion and the scope of a forecast: magnitude and `global` in place of what runs the network."""
    by = str(args["by"])
    return {
        "by": "magnitude" if get_criterion(by).runs_network else by,
        "scope": "global" if args["scope"] == SEARCHED else str(args["scope"]),
    }
