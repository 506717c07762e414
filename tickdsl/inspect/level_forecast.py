"""Forecast what is left of a network at each level of an arm, without training it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import torch

from tickdsl.engine.dense_networks import DenseNetwork, dense_network
from tickdsl.engine.graph_cache import image_shape_and_classes
from tickdsl.engine.plan_tickets import base_structure
from tickdsl.engine.run_masks import find_mask, load_mask
from tickdsl.engine.steps.network_size import structure_metrics
from tickdsl.errors import TickdslError
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import slice_state_dict
from tickdsl.plan.coarsening import coarsening_args
from tickdsl.plan.model import Arm, MaskOf, Matching, Model, Prune, Refill, Regroup, Rounds, Union
from tickdsl.plan.prune_arguments import prune_args
from tickdsl.plan.search_steps import SEARCHED
from tickdsl.plan.study import Study
from tickdsl.pruning.criteria import ScoringContext, get_criterion
from tickdsl.pruning.elastic import ElasticError, block_map
from tickdsl.pruning.elastic_structure import carry_structure
from tickdsl.pruning.overlap import overlap
from tickdsl.pruning.refill import refill_filters
from tickdsl.pruning.regroup import regroup_masks
from tickdsl.pruning.rounds import prune
from tickdsl.pruning.transfer import transfer_structure
from tickdsl.records.canonical import canonical_json
from tickdsl.training.catalogue import architecture_options


def forecast_levels(study: Study, arm: Arm, data: Path) -> list[dict[str, Any]]:
    """The structure metrics of each level of an arm, if the untrained network is pruned.

    Counts of removed units are exact; parameters and multiply-adds are estimates if the ranking is global. The list
    ends early if a level cannot be forecast.
    """
    graph = _network(arm, arm.judged_model, data).graph
    return [structure_metrics(graph, structure) for structure in _judged_structures(study, arm, data)]


def _network(arm: Arm, model: Model, data: Path) -> DenseNetwork:
    shape, classes = image_shape_and_classes(arm.data, data)
    return dense_network(model.name, canonical_json(architecture_options(model.options)), classes, shape)


def _judged_structures(study: Study, arm: Arm, data: Path) -> list[Structure]:
    """The structure of each level on the network that levels are measured as; the first is its dense one."""
    structures = _forecast_structures(study, arm, data)
    if arm.elastic is None:
        return structures
    source, target = (_network(arm, model, data).graph for model in (arm.model, arm.elastic.model))
    mapping = block_map(source, target, arm.elastic.rule)
    judged = [Structure.dense(target)]
    for structure in structures[1:]:
        try:
            judged.append(carry_structure(structure, source, target, mapping))
        except ElasticError:
            break  # a layer would be empty, which depends on the ranking
    return judged


def _forecast_structures(study: Study, arm: Arm, data: Path) -> list[Structure]:
    """The structure of each level, from the dense network or the ticket on."""
    network = _network(arm, arm.model, data)
    structure = base_structure(arm.model, network.graph)
    dense_state = network.module.state_dict()
    rows = [structure] * (1 + sum(cycle.times for cycle in arm.cycles))
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
                structure = _united(study, arm, group, structure, len(rows), network.graph, data)
                structure = _coarsened(attrs.evolve(scoring_context, structure=structure), group)
                structure = _of_run(group, structure, len(rows), study.plan.seeds[0], network.graph)
            except TickdslError:
                return rows
            if not group.joined and (not group.is_one_level or index == (times or 1) - 1):
                rows.append(structure)
        rows += [structure] * sum(cycle.times for cycle in group.cycles)  # they prune nothing
    return rows


def _coarsened(context: ScoringContext, group: Rounds) -> Structure:
    """The structure of a scoring context after the `refill` or `regroup` of a round."""
    structure = context.structure
    for tail in group.tail:
        match tail:
            case Refill():
                by = "l1" if tail.pictures else tail.by
                structure = refill_filters(context, {**coarsening_args(tail), "by": by})
            case Regroup():
                structure = regroup_masks(context.graph, structure, coarsening_args(tail))
    return structure


def _of_run(group: Rounds, structure: Structure, level: int, seed: int, graph: ModelGraph) -> Structure:
    """The structure of a level, or that of the run from which the round takes its mask."""
    for tail in group.tail:
        if isinstance(tail, MaskOf) and tail.run:
            structure = load_mask(find_mask(tail, level, seed).argument, None, graph)
    return structure


def _united(
    study: Study, arm: Arm, group: Rounds, structure: Structure, level: int, graph: ModelGraph, data: Path
) -> Structure:
    """The structure of a level after the unions with other arms. Raises TickdslError if one cannot be forecast."""
    parts = [structure]
    for name in (name for tail in group.tail if isinstance(tail, Union) for name in tail.arms):
        other = study.plan.find_arm(name, arm)
        structures = _forecast_structures(study, other, data)[1:] if other is not None else []
        if not structures:
            raise TickdslError(f"arm {name} cannot be forecast")
        parts.append(transfer_structure(structures[min(level, len(structures)) - 1], graph))
    return overlap(graph, parts, 1) if len(parts) > 1 else structure


def _matched_structures(study: Study, arm: Arm, group_prune: Prune, data: Path) -> list[Structure] | None:
    """The structures of the levels of the arm that a prune matches; None if it matches none."""
    if not isinstance(group_prune.amount, Matching):
        return None
    other = study.plan.find_arm(group_prune.amount.arm, arm)
    return _judged_structures(study, other, data)[1:] if other is not None else []


def _forecast_ranking(args: Mapping[str, Any]) -> dict[str, str]:
    """The criterion and the scope of a forecast: magnitude and `global` in place of what runs the network."""
    by = str(args["by"])
    return {
        "by": "magnitude" if get_criterion(by).runs_network else by,
        "scope": "global" if args["scope"] == SEARCHED else str(args["scope"]),
    }
