"""Check an arm on its traced network."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tickdsl.checks import (
    conditions,
    cost_targets,
    data_sets,
    network_size,
    phases,
    plugins,
    prune_amounts,
    prune_targets,
    sparse_training,
    successive_prunes,
    ticket_start,
    width_multiples,
)
from tickdsl.checks.schedules import arm_steps_per_epoch
from tickdsl.checks.traced_prune import TracedPrune
from tickdsl.engine.drop_units import drop_problem
from tickdsl.engine.graph_cache import DEFAULT_DATA_DIR, dense_graph, image_shape_and_classes, task_of
from tickdsl.engine.plan_tickets import is_ticket
from tickdsl.errors import NetworkTooLargeError, TickdslError, TicketError, UnreadableDataError, UnreadableWeightsError
from tickdsl.graph.model import ModelGraph
from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.lang.syntax import Span
from tickdsl.lang.vocabulary import DROP
from tickdsl.plan.model import Arm, Condition, Grow, Plan, Recalibrate
from tickdsl.plugins import PluginError
from tickdsl.training import catalogue, weights_files
from tickdsl.training.part_map import PartMap
from tickdsl.training.weights_fit import require_fit

_CHECKS: tuple[Callable[[TracedPrune], Iterator[Diagnostic]], ...] = (
    prune_targets.check_unit,
    prune_targets.check_patterns,
    prune_targets.check_coupled,
    prune_targets.check_not_removable,
    prune_targets.check_coupled_alone,
    prune_targets.check_global_norms,
    prune_amounts.check_stages,
    prune_amounts.check_rates,
    cost_targets.check_ceiling,
    width_multiples.check_multiple,
    prune_amounts.check_amount,
    prune_amounts.check_random_structure,
)


def diagnostics(arm: Arm, data: Path | None, *, has_random_structure: bool = False) -> Iterator[Diagnostic]:
    """Yield findings about every prune of an arm, on its dense network.

    `has_random_structure`: the arm is compared with `random-structure`.
    """
    root = data or DEFAULT_DATA_DIR
    span = arm.data.span
    try:
        data_diagnostics = list(data_sets.diagnostics(arm.data, root))
        image_shape_and_classes(arm.data, root)
        span = arm.model.span
        _require_weights(arm)
        graph = dense_graph(arm, data)
        require_fitting_weights(arm, graph)
        ticket_findings = list(ticket_start.diagnostics(arm, data))
        if any(found.severity == "error" for found in ticket_findings):
            yield from ticket_findings
            return
        span = arm.transfer.data.span if arm.transfer is not None else span
        if arm.transfer is not None:
            data_diagnostics += data_sets.diagnostics(arm.transfer.data, root)
        transfer_diagnostics = list(_check_transfer(arm, root))
    except PluginError as error:
        yield plugins.plugin_diagnostic(error, span)
        return
    except NetworkTooLargeError as error:
        yield Diagnostic("TD414", error.message, span, secondary=(Label(arm.data.span, "the data"),), help=error.hint)
        return
    except UnreadableDataError as error:
        yield Diagnostic("TD130", error.message, span, help=_way_out(error, span))
        return
    except UnreadableWeightsError as error:
        yield Diagnostic("TD131", error.message, span, help=_way_out(error, span))
        return
    except TicketError as error:
        yield Diagnostic("TD526", error.message, span, help=_way_out(error, span))
        return
    except TickdslError as error:
        yield Diagnostic("TD413", error.message, span, help=error.hint)
        return
    too_large = list(network_size.diagnostics(arm, graph, image_shape_and_classes(arm.data, root)[0]))
    if too_large:
        yield from too_large
        return
    yield from data_diagnostics
    yield from ticket_findings
    yield from transfer_diagnostics
    yield from conditions.check_until(arm, graph)
    yield from _check_drops(arm, [group.prune.ends for group in arm.distinct_rounds.values()], root)
    yield from plugins.diagnostics(arm, arm_steps_per_epoch(arm), root)
    yield from _check_recalibration(arm, graph)
    yield from phases.diagnostics(arm)
    for index, group in arm.distinct_rounds.items():
        traced = TracedPrune(
            arm,
            group.prune,
            graph,
            is_first=index == 0,
            is_only=len(arm.rounds) == 1,
            has_random_structure=has_random_structure,
        )
        for check in _CHECKS:
            result = list(check(traced))
            yield from result
            if any(d.severity == "error" for d in result):
                break  # later findings would only follow from this one
    yield from cost_targets.check_rounds(arm, graph)
    grows = any(isinstance(tail, Grow) for group in arm.rounds for tail in group.tail)
    if len(arm.rounds) > 1 and not grows:
        yield from successive_prunes.diagnostics(arm, graph)
    yield from sparse_training.network_diagnostics(arm, graph)


def _way_out(error: TickdslError, span: Span) -> str | None:
    """What to do about a file that cannot be read; in the path of another system, backslashes were lost."""
    line = span.source.text.splitlines()[span.line - 1]
    written = re.search(r'"[^"]*\\[^"]*"', line)
    if written is None:
        return error.hint
    path = re.sub(r"\\+", "/", written[0])
    return f"{error.hint}; write paths with `/`: {path}"


def stops(plan: Plan, data: Path | None) -> Iterator[Diagnostic]:
    """Yield findings about conditions of `stop when` that never hold, or at once, on the networks of all arms."""
    if not plan.stops:
        return
    try:
        pruned = [arm for arm in plan.arms if arm.rounds]
        ranges = [conditions.metric_ranges(arm, dense_graph(arm, data)) for arm in pruned]
    except TickdslError:
        return  # an arm has a finding of its own
    for stop in plan.stops if ranges else ():
        yield from conditions.check_stop(stop, ranges)
    for arm in plan.arms:
        yield from _check_drops(arm, plan.stops, data or DEFAULT_DATA_DIR)


def _check_drops(arm: Arm, tested: Iterable[Condition | None], root: Path) -> Iterator[Diagnostic]:
    """Check that conditions on the drop have the unit of the primary metric (TD439)."""
    drops = [condition for condition in tested if condition is not None and condition.metric == DROP]
    if not drops:
        return
    task = task_of(arm.model, arm.data, root)
    for condition in drops:
        if (problem := drop_problem(condition, task)) is not None:
            yield Diagnostic("TD439", problem.message, condition.span, help=problem.hint)


def _check_recalibration(arm: Arm, graph: ModelGraph) -> Iterator[Diagnostic]:
    """Check that a network which is recalibrated has batch norm, and that it is the one that is measured."""
    recalibration = next((t for group in arm.rounds for t in group.tail if isinstance(t, Recalibrate)), None)
    if recalibration is None:
        return
    if not any(name.rpartition(".")[2] == "running_mean" for name in graph.buffers):
        yield Diagnostic(
            "TD425",
            f"`recalibrate` changes nothing: {arm.model.name} has no batch norm",
            recalibration.span,
            help="remove it, or use a network with batch norm",
        )
    elif arm.split is not None:
        yield Diagnostic(
            "TD425",
            "`recalibrate` does not reach the ticket: only the networks of the parts are recalibrated, and the ticket "
            "is trained on all data from weights of the dense network",
            recalibration.span,
            help="remove it, or remove `split` and `overlap`",
        )


def _require_weights(arm: Arm) -> None:
    """Raise TickdslError if the initial weights of the arm's network cannot be loaded."""
    weights_file = arm.model.weights_file
    try:
        PartMap.of_model(arm.model.options)
    except TickdslError as error:
        raise UnreadableWeightsError(error.message, error.hint) from error
    if weights_file is not None:
        weights_files.inspect(Path(weights_file))
    downloads = arm.model.options.get("weights") == catalogue.DEFAULT_WEIGHTS
    if downloads and not catalogue.MODELS[arm.model.name].has_fetchable_weights:
        raise UnreadableWeightsError(
            f"{arm.model.name} has no pretrained weights to download", "use a weights file, or a torchvision model"
        )


def require_fitting_weights(arm: Arm, graph: ModelGraph) -> None:
    """Raise UnreadableWeightsError if the plain weights in a safetensors file are those of another network.

    Other formats are pickles, which are only read with torch, when the plan runs; `ticket_start` compares tickets.
    """
    weights_file = arm.model.weights_file
    if weights_file is None or is_ticket(arm.model):
        return
    found = weights_files.read_shapes(Path(weights_file))
    heads = [info.module for info in graph.weights.values() if info.is_output]
    part = PartMap.of_model(arm.model.options)
    if found is None or (len(heads) != 1 and part is None):
        return
    shapes = {**graph.parameters, **graph.buffers}
    expected = shapes | {alias: shapes[name] for alias, name in graph.aliases.items() if name in shapes}
    # The graph does not tell which buffers are in a state dict.
    optional = {*graph.buffers, *graph.aliases}
    try:
        require_fit(weights_file, arm.model.name, found, expected, heads[0] if heads else "", optional, part)
    except TickdslError as error:
        raise UnreadableWeightsError(error.message, error.hint) from error


def _check_transfer(arm: Arm, root: Path) -> Iterator[Diagnostic]:
    """Check that the pruned network fits the images and the classes of the data that it is transferred to."""
    transfer = arm.transfer
    if transfer is None:
        return
    shape, classes = image_shape_and_classes(arm.data, root)
    new_shape, new_classes = image_shape_and_classes(transfer.data, root)
    if shape != new_shape:
        size, new_size = ("×".join(map(str, each)) for each in (shape, new_shape))
        yield Diagnostic(
            "TD413",
            f"the ticket needs images of {size}, but {transfer.data.name} has {new_size}",
            transfer.data.span,
            secondary=(Label(arm.data.span, "the ticket is found on this data"),),
            help=f"give both data sets the same shape, e.g. `size={shape[1]} channels={shape[0]}`",
        )
    elif transfer.head == "keep" and classes != new_classes:
        yield Diagnostic(
            "TD412",
            f"the head has {classes} outputs (for {arm.data.name}), but {transfer.data.name} has {new_classes} classes",
            transfer.span,
            help="use `head=reset`",
        )
