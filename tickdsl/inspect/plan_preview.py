"""Print a study before it runs: its steps, what is shared and stored, and the cost of each level."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import networkx as nx
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tickdsl.console import SafeConsole
from tickdsl.engine.scheduler.event_builders import UNITS_LEFT, short_step_names
from tickdsl.engine.scheduler.forecast import epochs, steps_to_run, unreached_steps
from tickdsl.inspect.estimate import Estimate, NoEstimate, estimate_duration
from tickdsl.inspect.level_forecast import forecast_levels
from tickdsl.inspect.search_forecast import forecast_searches
from tickdsl.inspect.stored_results import stored_results
from tickdsl.lang.vocabulary import CHANNEL_UNITS
from tickdsl.moments import format_brief, format_duration
from tickdsl.plan.model import Arm, Matching
from tickdsl.plan.model import as_json as plan_json
from tickdsl.plan.search_steps import SEARCHED
from tickdsl.plan.steps import Step
from tickdsl.plan.study import Study
from tickdsl.plurals import agreeing, plural
from tickdsl.records.canonical import canonical_json
from tickdsl.records.store import Store
from tickdsl.results.device_time import hours_in_words
from tickdsl.results.formatting import percent
from tickdsl.results.needed_seeds import needed_seeds


def print_preview(study: Study, store: Store | None, data: Path, *, every_step: bool = False) -> None:
    """Print a summary of the study, its levels with their cost, and every step if `every_step`."""
    stored = {key for key in study.graph if store is not None and key in store}
    unreached = unreached_steps(study, store.metrics) - stored if store is not None else set()
    console = SafeConsole(width=None if os.isatty(1) else 120)
    if os.isatty(1):
        _print_all(study, store, stored, unreached, data, console, every_step)
        return
    with console.capture() as captured:
        _print_all(study, store, stored, unreached, data, console, every_step)
    # Tables are padded to their width, which only makes files and diffs longer.
    lines = [line.rstrip() for line in captured.get().split("\n")]
    sys.stdout.write("\n".join(line for line in lines if line) + "\n")


def _print_all(
    study: Study,
    store: Store | None,
    stored: set[str],
    unreached: set[str],
    data: Path,
    console: Console,
    every_step: bool,
) -> None:
    _print_summary(study, stored, unreached, store, data, console)
    forecasts: dict[bytes, list[dict[str, Any]]] = {}
    for arm in study.plan.arms:
        # Arms that differ only in how they rewind have the same networks.
        prunes = [
            [plan_json(group.prune), group.is_one_level, group.joined, [cycle.times for cycle in group.cycles]]
            for group in arm.rounds
        ]
        swept = dict(arm.sweep) if any(isinstance(group.prune.amount, Matching) for group in arm.rounds) else {}
        settings = [plan_json(each) for each in (arm.model, arm.data, arm.split, arm.elastic)]
        key = canonical_json([settings, [cycle.times for cycle in arm.cycles], prunes, swept])
        if key not in forecasts:
            forecasts[key] = forecast_levels(study, arm, data)
        _print_levels(study, arm, forecasts[key], stored, unreached, console)
    if every_step:
        _print_steps(study, stored, console)


def _print_summary(
    study: Study, stored: set[str], unreached: set[str], store: Store | None, data: Path, console: Console
) -> None:
    counts = Counter(study.step(key).operation for key in study.graph)
    seeds = study.plan.seeds
    console.print(
        f"{study.plan.path}: {plural(len(study.plan.arms), 'arm')}, "
        f"{agreeing(len(seeds), 'seed')} {', '.join(map(str, seeds))}"
    )
    console.print(f"{plural(len(study.graph), 'step')}: " + ", ".join(f"{n:,} {kind}" for kind, n in counts.items()))
    shared = study.naive_trainings - study.trainings
    console.print(
        f"{plural(study.trainings, 'training')} ({shared} of {study.naive_trainings} {agreeing(shared, 'is')} shared)"
    )
    pending = [key for key in study.graph if key not in stored]
    metrics = store.metrics if store is not None else _no_metrics
    to_run = steps_to_run(study, stored.__contains__, metrics)
    epoch_counts = [epochs(study.step(key)) for key in pending if key in to_run]
    total = sum(length for length in epoch_counts if length is not None)
    console.print(
        f"{len(stored):,} of {plural(len(study.graph) - len(unreached), 'result')} stored; "
        + (
            f"{format_brief(total)} {'epoch' if total == 1 else 'epochs'} left to train"
            if total
            else "nothing to train"
        )
    )
    if (searches := forecast_searches(study, to_run, store, data)) is not None:
        console.print(str(searches))
    if unreached:
        steps, verb = plural(len(unreached), "step"), agreeing(len(unreached), "is")
        console.print(f"{steps} {verb} not needed: arms have ended before")
    if total:
        console.print(_estimate_text(estimate_duration(study, to_run, store, data)))
    if store is not None:
        for needed in needed_seeds(stored_results(study, store, stored)):
            console.print(str(needed))


def _no_metrics(key: str) -> None:
    """There is no store."""


def _estimate_text(estimate: Estimate | NoEstimate) -> str:
    if isinstance(estimate, NoEstimate):
        return f"time not estimated: {estimate.reason}"
    return (
        f"about {format_duration(estimate.seconds)} with {plural(estimate.jobs, 'job')} on this machine "
        f"({format_duration(estimate.low)} to {format_duration(estimate.high)}, "
        f"from {plural(estimate.samples, 'earlier training')}): {hours_in_words(estimate.device_hours)} device hours"
    )


def _print_levels(
    study: Study,
    arm: Arm,
    forecast: list[dict[str, Any]],
    stored: set[str],
    unreached: set[str],
    console: Console,
) -> None:
    seed = study.plan.seeds[0]
    table = Table(title=Text(f"\n{arm.id}"), title_justify="left", box=None, pad_edge=False, header_style="bold")
    units = _units_left(arm, forecast)
    left = [f"{unit} left" for unit in units]
    for name in ("level", "params", "MACs", "sparsity", *left, "epochs", "measured", "stored"):
        table.add_column(name, justify="right")
    levels = [level for level in study.levels if level.arm == arm.id and level.seed == seed]
    earlier: set[str] = set()
    for number, row in enumerate(forecast):
        steps = {m.step for m in study.measurements if m.arm == arm.id and m.level == number}
        stored_count = len(steps & stored)
        required = steps.union(*(nx.ancestors(study.graph, step) for step in steps))
        new_epochs = [
            epochs(study.step(key))
            for key in required - earlier
            if "prefix_of" not in (node := study.graph.nodes[key]) and any(user == arm.id for user, _ in node["uses"])
        ]
        earlier |= required
        is_reached = not steps or bool(steps - unreached)
        table.add_row(
            str(number) if number else "0 (dense)",
            f"{row['params']:,}",
            f"{row['macs']:,}",
            percent(row["sparsity"]),
            *(percent(row[unit]) for unit in units),
            format_brief(sum(length or 0 for length in new_epochs)) if is_reached else "–",
            str(len(steps)) if is_reached else "–",
            f"{stored_count}/{len(steps)}" if is_reached else "not reached",
        )
    console.print(table)
    if any(level.until is not None for level in levels) and arm.split is not None:
        console.print("maximum number of levels: the actual number depends on the overlap of the parts", style="dim")
    if any(group.prune.scope in ("global", SEARCHED) and group.prune.unit in CHANNEL_UNITS for group in arm.rounds):
        console.print(
            "params and MACs are estimates: they depend on the layers that the ranking or the search prunes",
            style="dim",
        )


def _units_left(arm: Arm, forecast: list[dict[str, Any]]) -> list[str]:
    """The units of which the table shows what is left: those that the arm prunes, and filters."""
    pruned = dict.fromkeys(group.prune.unit for group in arm.rounds)
    units = [unit for unit in pruned if unit in UNITS_LEFT and all(unit in row for row in forecast)]
    return units if units and all(row["filters"] == 1 for row in forecast) else ["filters", *units]


def _print_steps(study: Study, stored: set[str], console: Console) -> None:
    names = short_step_names(study)
    table = Table(title="\nsteps", title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in ("step", "operation", "description", "seed", "epochs", "parents", "arms", "stored"):
        table.add_column(name)
    for key, node in study.graph.nodes(data=True):
        step: Step = node["step"]
        length = epochs(step)
        table.add_row(
            names[key],
            step.operation,
            node["label"],
            "" if step.seed is None else str(step.seed),
            "" if length is None else format_brief(length),
            " ".join(names[parent] for parent in step.parents.values()),
            ", ".join(dict.fromkeys(arm for arm, _ in node["uses"])),
            "yes" if key in stored else "",
        )
    console.print(table)
