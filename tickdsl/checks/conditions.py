"""Check that the conditions of `until` and `stop when` can hold, and not at the first level (TD205, TD514, TD520).

The values that a metric can have are bounded by the traced network: masks save no multiply-adds, every layer keeps a
unit, and rounds of weights remove known numbers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import attrs

from tickdsl.checks.traced_prune import TracedPrune
from tickdsl.engine.plan_tickets import base_structure, is_ticket
from tickdsl.errors import TickdslError
from tickdsl.graph.costs import TRACE_BATCH_SIZE, cost
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.vocabulary import is_percentage
from tickdsl.lang.writing.literals import percent
from tickdsl.moments import format_brief
from tickdsl.plan.model import Arm, Condition, MaskOf, Matching, Overlap, Prune, ToCost, Union
from tickdsl.pruning.cost_targets import cost_metrics, weights_to_remove
from tickdsl.pruning.round_forecast import forecast_rounds, max_rounds
from tickdsl.pruning.scope import GROUP_KINDS, LAYERS
from tickdsl.training import catalogue
from tickdsl.training.catalogue.tasks import bounds


@attrs.frozen
class Range:
    """The least and the largest value that a metric can have."""

    least: float
    most: float

    def always(self, condition: Condition) -> bool:
        """Whether every value meets the condition: comparisons are monotonic, so the ends decide."""
        return condition.holds(self.least) and condition.holds(self.most)

    def never(self, condition: Condition) -> bool:
        """Whether no value meets the condition."""
        return not condition.holds(self.least) and not condition.holds(self.most)

    def united(self, other: Range) -> Range:
        """The range that covers both."""
        return Range(min(self.least, other.least), max(self.most, other.most))


Ranges = Mapping[str, Range]


@attrs.frozen
class ArmRanges:
    """What the metrics of an arm can be: at any level, and at the first; `levels`: how many levels there can be.

    `dense`: what the dense network has of the metrics that conditions compare with a percentage of it.
    """

    any_level: Ranges
    first_level: Ranges
    levels: int
    dense: Mapping[str, float] = attrs.field(factory=dict)

    def absolute(self, condition: Condition) -> Condition:
        """The condition with a bound in the metric's unit, if it is a percentage of the dense network's."""
        if not condition.percentage or condition.metric not in self.dense:
            return condition
        return attrs.evolve(condition, bound=condition.bound * self.dense[condition.metric], percentage=False)

    def at_any_level(self, metric: str) -> Range:
        """What a metric can be at any level; one of a test is only bounded by what it means."""
        return self.any_level.get(metric) or Range(*bounds(metric))

    def at_first_level(self, metric: str) -> Range:
        """What a metric can be at the first level."""
        return self.first_level.get(metric) or Range(*bounds(metric))


def metric_ranges(arm: Arm, graph: ModelGraph, judged: ModelGraph) -> ArmRanges:
    """The ranges of the metrics that conditions can test. Raises TickdslError if a prune has nothing to remove.

    judged: the network that levels are measured as, which is another one after a `stretch` or `squeeze`.
    """
    ranges = _metric_ranges(arm, graph) if arm.elastic is None else _carried_ranges(arm, graph, judged)
    return attrs.evolve(ranges, dense=cost_metrics(judged, Structure.dense(judged)))


def _carried_ranges(arm: Arm, graph: ModelGraph, judged: ModelGraph) -> ArmRanges:
    """What the metrics can be on the network that tickets are carried to: how much of it goes, the run tells."""
    dense = cost(judged, Structure.dense(judged))
    macs, masked = dense.macs // TRACE_BATCH_SIZE, all(group.prune.unit == "weights" for group in arm.rounds)
    ranges = {
        **_anything(arm),
        "params": Range(0, dense.params),
        "flops": Range(macs if masked else 0, macs),
    }
    return ArmRanges(ranges, ranges, _levels(arm, graph))


def _anything(arm: Arm) -> dict[str, Range]:
    """The ranges that follow from what metrics mean."""
    tested = arm.data if arm.transfer is None else arm.transfer.data
    task = catalogue.MODELS[arm.model.name].task or catalogue.DATASETS[tested.name].task
    return {"sparsity": Range(0, 1), "loss": Range(*bounds("loss", task))}


def _levels(arm: Arm, graph: ModelGraph) -> int:
    """How many levels an arm can have."""
    levels = sum(1 if group.joined or group.is_one_level else _rounds(arm, group.prune, graph) for group in arm.rounds)
    return levels + sum(
        cycle.times for cycles in (arm.cycles, *(group.cycles for group in arm.rounds)) for cycle in cycles
    )


def _metric_ranges(arm: Arm, graph: ModelGraph) -> ArmRanges:
    dense = cost(graph, Structure.dense(graph))
    macs = dense.macs // TRACE_BATCH_SIZE
    prunes = [group.prune for group in arm.distinct_rounds.values()]
    anything, levels = _anything(arm), _levels(arm, graph)
    if is_ticket(arm.model):  # what its masks leave is not counted here
        left = cost(graph, base_structure(arm.model, graph))
        most = left.macs // TRACE_BATCH_SIZE
        least = most if all(prune.unit == "weights" for prune in prunes) else 0
        ranges = {**anything, "params": Range(0, left.params), "flops": Range(least, most)}
        return ArmRanges(ranges, ranges, levels)
    if any(prune.unit != "weights" for prune in prunes):
        smallest = cost(graph, _smallest(arm, prunes, graph))
        masked = any(prune.unit == "weights" for prune in prunes)
        ranges = {
            **anything,
            "params": Range(0 if masked else smallest.params, dense.params),
            "flops": Range(smallest.macs // TRACE_BATCH_SIZE, macs),
        }
        return ArmRanges(ranges, ranges, levels)
    total = sum(math.prod(info.shape) for info in graph.weights.values())
    removed = _removable_weights(arm, prunes, graph)
    any_level = {
        **anything,
        "params": Range(dense.params - removed, dense.params),
        "flops": Range(macs, macs),
        "sparsity": Range(0, removed / total),
    }
    first = _weights_of_first_level(arm, graph)
    if first is None:
        return ArmRanges(any_level, any_level, levels)
    exact = {"params": dense.params - first, "sparsity": first / total}
    return ArmRanges(any_level, {**any_level, **{name: Range(v, v) for name, v in exact.items()}}, levels)


def check_until(arm: Arm, graph: ModelGraph, judged: ModelGraph) -> Iterator[Diagnostic]:
    """Check the condition of `until` of an arm's prunes; `judged` is the network that levels are measured as."""
    for group in arm.distinct_rounds.values():
        condition = group.prune.ends
        if condition is None:
            continue
        try:
            ranges = metric_ranges(arm, graph, judged)
        except TickdslError:
            return  # the prune has a finding of its own
        values, absolute = ranges.at_any_level(condition.metric), ranges.absolute(condition)
        if values.never(absolute):
            message = f"`until {_text(condition)}` is never reached: {_described(condition, values, ranges)}"
            yield Diagnostic("TD205", message, condition.span, help=_cure(condition.metric, values))
        elif ranges.at_first_level(condition.metric).always(absolute):
            yield _at_once("until", condition, ranges.at_first_level(condition.metric), ranges)


def check_stop(stop: Condition, arms: Sequence[ArmRanges]) -> Iterator[Diagnostic]:
    """Check a condition of `stop when` on all arms of a plan."""
    values = [ranges.at_any_level(stop.metric) for ranges in arms]
    if all(each.never(ranges.absolute(stop)) for each, ranges in zip(values, arms, strict=True)):
        (overall,) = itertools.islice(reversed([*itertools.accumulate(values, Range.united)]), 1)
        message = f"`{_text(stop)}` is never reached: {_described(stop, overall, arms[0])}"
        yield Diagnostic("TD514", message, stop.span, help=_cure(stop.metric, overall))
        return
    several = [ranges for ranges in arms if ranges.levels > 1]
    if several and all(ranges.at_first_level(stop.metric).always(ranges.absolute(stop)) for ranges in several):
        yield _at_once("stop when", stop, several[0].at_first_level(stop.metric), several[0])


def _at_once(keyword: str, condition: Condition, values: Range, ranges: ArmRanges) -> Diagnostic:
    return Diagnostic(
        "TD520",
        f"`{keyword} {_text(condition)}` holds at the first level already: {_described(condition, values, ranges)}",
        condition.span,
        help="turn the comparison round, or remove the condition",
    )


def _rounds(arm: Arm, prune: Prune, graph: ModelGraph) -> int:
    if prune.times is not None:
        return prune.times
    if isinstance(prune.amount, Matching):
        return 2  # as many as the other arm: perhaps more than one
    traced = TracedPrune(arm, prune, graph, is_first=True, is_only=True)
    return max_rounds(traced.scope(), traced.args)


def _smallest(arm: Arm, prunes: Sequence[Prune], graph: ModelGraph) -> Structure:
    """The structure in which every group that the prunes may touch has one unit, without the layers that may go."""
    structure = Structure.dense(graph)
    kinds = {GROUP_KINDS.get(prune.unit) for prune in prunes}
    for group in graph.channels:
        if group.kind in kinds and group.reason is None and group.size > 1:
            structure = structure.remove(group.name, range(1, group.size))
    if any(prune.unit in LAYERS for prune in prunes):
        for block in graph.layers:
            structure = structure.remove_block(block.name)
    return structure


def _removable_weights(arm: Arm, prunes: Sequence[Prune], graph: ModelGraph) -> int:
    """The most weights that the rounds of an arm of `prune weights` can remove."""
    if not prunes:
        return 0
    if any(isinstance(tail, MaskOf) and tail.run for tail in arm.tails):
        return sum(math.prod(info.shape) for info in graph.weights.values())
    scopes = [TracedPrune(arm, prune, graph, is_first=True, is_only=True).scope() for prune in prunes]
    free = {pool.name: pool.original - pool.minimum for scope in scopes for pool in scope.pools}
    most = sum(free.values())
    if arm.split is not None or len(arm.rounds) > 1 or any(isinstance(p.amount, Matching) for p in prunes):
        return most
    traced = TracedPrune(arm, prunes[0], graph, is_first=True, is_only=True)
    if isinstance(prunes[0].amount, ToCost):
        return weights_to_remove(graph, traced.base, traced.raw_args((prunes[0].times or 1) - 1))
    rounds = _rounds(arm, prunes[0], graph) if prunes[0].until is None else 0
    counted = sum(forecast_rounds(traced.scope(), traced.args, rounds)) if rounds else most
    return min(most, counted)


def _weights_of_first_level(arm: Arm, graph: ModelGraph) -> int | None:
    """How many weights are gone at the first level; None if only the run can tell."""
    if arm.cycles:
        return 0
    group = arm.rounds[0]
    apart = arm.split is not None or any(isinstance(tail, Overlap | Union | MaskOf) for tail in group.tail)
    if apart or group.joined or isinstance(group.prune.amount, Matching):
        return None
    traced = TracedPrune(arm, group.prune, graph, is_first=True, is_only=len(arm.rounds) == 1)
    rounds = (group.prune.times or 1) if group.is_one_level else 1
    if isinstance(group.prune.amount, ToCost):
        return weights_to_remove(graph, traced.base, traced.raw_args(rounds - 1))
    return sum(forecast_rounds(traced.scope(), traced.args, rounds))


def _text(condition: Condition) -> str:
    is_share = condition.percentage or is_percentage(condition.metric)
    bound = percent(condition.bound) if is_share else f"{condition.bound:,g}"
    return f"{condition.metric} {condition.comparison} {bound}"


def _described(condition: Condition, values: Range, ranges: ArmRanges) -> str:
    metric, dense = condition.metric, ranges.dense.get(condition.metric)

    def text(value: float) -> str:
        if condition.percentage and dense:
            return percent(round(value / dense, 4))
        if is_percentage(metric):
            return percent(round(value, 4))
        return f"{value:,.0f}" if value.is_integer() or value > 100 else format_brief(value)

    least, most = float(values.least), float(values.most)
    if least == most:
        return f"{metric} is {text(least)} there"
    limits = [f"at {word} {text(limit)}" for word, limit in (("least", least), ("most", most)) if math.isfinite(limit)]
    return f"{metric} is {' and '.join(limits)}"


def _cure(metric: str, values: Range) -> str:
    if metric == "flops" and values.least == values.most:
        return "masks of single weights save no multiply-adds: prune filters, neurons or layers, or test `sparsity`"
    return "choose a bound within this range, or prune further"
