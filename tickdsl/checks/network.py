"""Check an arm on its traced network."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from tickdsl.checks import (
    coarsening,
    conditions,
    cost_targets,
    data_sets,
    elastic,
    image_sizes,
    masks_of_runs,
    network_size,
    phases,
    plugins,
    prune_amounts,
    prune_targets,
    searches,
    sparse_training,
    successive_prunes,
    tasks,
    ticket_start,
    width_multiples,
)
from tickdsl.checks.schedules import arm_steps_per_epoch
from tickdsl.checks.traced_prune import TracedPrune
from tickdsl.engine.graph_cache import DEFAULT_DATA_DIR, dense_graph, image_shape_and_classes
from tickdsl.engine.plan_tickets import is_ticket
from tickdsl.errors import (
    InputsMismatchError,
    NetworkTooLargeError,
    PartMapError,
    TickdslError,
    TicketError,
    TooFewSamplesError,
    UnreadableDataError,
    UnreadableWeightsError,
)
from tickdsl.graph.model import ModelGraph
from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.lang.findings.suggestions import join_or
from tickdsl.lang.syntax import Span
from tickdsl.plan.model import Arm, Data, Grow, MaskOf, Plan, Recalibrate, Refill, Regroup
from tickdsl.plugins import PluginError
from tickdsl.plurals import agreeing
from tickdsl.training import catalogue, weights_files
from tickdsl.training.catalogue.input_shapes import NamedShapes, inputs_in_words, is_tokens, shape_in_words
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
    searches.check_evaluations,
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
        task_findings = list(tasks.diagnostics_of_data(arm, root))
        if any(found.severity == "error" for found in task_findings):
            yield from task_findings
            return
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
    except TooFewSamplesError as error:
        yield Diagnostic("TD533", f"`validation=`: {error.message}", span, help=error.hint)
        return
    except InputsMismatchError as error:
        yield Diagnostic("TD443", error.message, span, secondary=(Label(arm.data.span, "the data"),), help=error.hint)
        return
    except UnreadableDataError as error:
        yield Diagnostic("TD130", error.message, span, help=_way_out(error, span))
        return
    except PartMapError as error:
        yield Diagnostic("TD442", error.message, span, help=_way_out(error, span))
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
    yield from image_sizes.diagnostics(arm, image_shape_and_classes(arm.data, root)[0])
    yield from data_diagnostics
    yield from task_findings
    yield from ticket_findings
    yield from transfer_diagnostics
    elastic_findings = list(elastic.diagnostics(arm, graph, data))
    yield from elastic_findings
    if not any(found.severity == "error" for found in elastic_findings):
        judged = judged_graph(arm, data)
        if arm.elastic is not None:
            shape, _ = image_shape_and_classes(arm.data, root)
            yield from network_size.diagnostics(attrs.evolve(arm, model=arm.judged_model), judged, shape)
        yield from conditions.check_until(arm, graph, judged)
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
    replaces = any(
        isinstance(tail, Grow | Refill | Regroup) or (isinstance(tail, MaskOf) and tail.run) for tail in arm.tails
    )
    if len(arm.rounds) > 1 and not replaces:
        yield from successive_prunes.diagnostics(arm, graph)
    yield from sparse_training.network_diagnostics(arm, graph)
    yield from coarsening.network_diagnostics(arm, graph)
    yield from masks_of_runs.network_diagnostics(arm, graph)


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
        ranges = [
            conditions.metric_ranges(arm, dense_graph(arm, data), judged_graph(arm, data))
            for arm in plan.arms
            if arm.has_levels
        ]
    except TickdslError:
        return  # an arm has a finding of its own
    for stop in plan.stops if ranges else ():
        yield from conditions.check_stop(stop, ranges)


def judged_graph(arm: Arm, data: Path | None) -> ModelGraph:
    """The network that the levels of an arm are measured as. Raises TickdslError if it cannot be built."""
    return dense_graph(arm if arm.elastic is None else attrs.evolve(arm, model=arm.judged_model), data)


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
    PartMap.of_model(arm.model.options)
    if weights_file is not None:
        weights_files.inspect(Path(weights_file))
    downloads = arm.model.options.get("weights") == catalogue.DEFAULT_WEIGHTS
    info = catalogue.MODELS[arm.model.name]
    if downloads and not info.has_fetchable_weights:
        raise UnreadableWeightsError(
            f"{arm.model.name} has no pretrained weights to download", "use a weights file, or a torchvision model"
        )
    if downloads and info.family == catalogue.HF_FAMILY and not arm.model.options.get("config"):
        raise UnreadableWeightsError(
            f"{arm.model.name} is a type of networks, which has no weights of its own",
            "add config= with the folder or the repository of the Hub that has them",
        )
    folder = arm.model.pretrained_folder
    if folder is not None and not any(Path(folder).glob("*.safetensors")):
        raise UnreadableWeightsError(f"{folder} has no .safetensors file", "save the network there, or drop weights=")


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
    except PartMapError:
        raise
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
        if isinstance(shape, NamedShapes):
            options = "with inputs of the same names"
        elif is_tokens(shape):
            options = "as many tokens of one vocabulary"
        else:
            options = f"e.g. `size={shape[1]} channels={shape[0]}`"
        needed = shape_in_words(shape) if is_tokens(shape) else inputs_in_words(shape).replace("x", "×")
        yield Diagnostic(
            "TD413",
            f"the ticket needs {needed}, but {transfer.data.name} has {shape_in_words(new_shape)}",
            transfer.data.span,
            secondary=(Label(arm.data.span, "the ticket is found on this data"),),
            help=f"give both data sets the same shape, {options}",
        )
    elif transfer.head == "keep" and classes != new_classes:
        yield Diagnostic(
            "TD412",
            f"the head has {classes} outputs (for {arm.data.name}), but {transfer.data.name} has {new_classes} classes",
            transfer.span,
            help="use `head=reset`",
        )
    else:
        yield from _check_body(arm, transfer.data, root)


def _check_body(arm: Arm, data: Data, root: Path) -> Iterator[Diagnostic]:
    """Check that the tensors of a network's body have the same names and shapes on the data of a transfer.

    The head is the last layer, which is drawn anew.
    """
    graphs = [dense_graph(each, root) for each in (arm, attrs.evolve(arm, data=data))]
    heads = {info.module for graph in graphs for info in graph.weights.values() if info.is_output}
    bodies = [
        {
            name: shape
            for name, shape in {**graph.parameters, **graph.buffers}.items()
            if name.rpartition(".")[0] not in heads
        }
        for graph in graphs
    ]
    body, new_body = bodies
    differing = [name for name in (*body, *new_body) if body.get(name) != new_body.get(name)]
    if not differing:
        return
    first = differing[0]
    here, there = (
        "has none" if first not in each else f"has {'×'.join(map(str, each[first])) or 'one number'}" for each in bodies
    )
    names = join_or(dict.fromkeys(differing), 4)
    yield Diagnostic(
        "TD478",
        f"the body of {arm.model.name} is another network on {data.name}: {names} "
        f"{agreeing(len(set(differing)), 'does')} not fit",
        data.span,
        secondary=(Label(arm.data.span, "the ticket is found on this data"),),
        notes=(f"{first}: the network on {arm.data.name} {here}, on {data.name} it {there}",),
        help="transfer to data whose targets only the last layer depends on, or use another model",
    )
