"""A study before it runs: its steps, what is shared and stored, and what each level will cost."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import attrs
import networkx as nx
import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tickdsl.engine.dense_networks import dense_network
from tickdsl.engine.graph_cache import image_shape_and_classes
from tickdsl.engine.machine.job_limits import default_jobs
from tickdsl.engine.scheduler.event_builders import epochs, short_step_names
from tickdsl.engine.steps.network_size import structure_metrics
from tickdsl.errors import TickdslError
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import slice_state_dict
from tickdsl.inspect.estimate import Estimate, NoEstimate, estimate_duration
from tickdsl.moments import format_brief, format_duration
from tickdsl.plan.arm_lowering import is_one_level
from tickdsl.plan.model import Arm, Matching
from tickdsl.plan.model import as_json as plan_json
from tickdsl.plan.prune_arguments import prune_args
from tickdsl.plan.steps import Step, differences
from tickdsl.plan.study import Study
from tickdsl.pruning.criteria import ScoringContext, get_criterion
from tickdsl.pruning.selection import prune
from tickdsl.records.canonical import canonical_json
from tickdsl.records.store import Store
from tickdsl.training.catalogue import architecture_options


def _open_store(root: Path) -> Store | None:
    """The store, where there is one: a preview makes nothing."""
    return Store(root) if root.is_dir() else None


def as_json(study: Study, root: Path) -> dict[str, Any]:
    """The resolved plan, its steps, and how long what is left will take (null where that is not known)."""
    store = _open_store(root)
    pending = [key for key in study.graph if store is None or key not in store]
    time = estimate_duration(study, pending, store, default_jobs("cpu", study))
    return {
        "v": 1,
        "plan": plan_json(study.plan),
        "time": attrs.asdict(time) if isinstance(time, Estimate) else None,
        "steps": [
            {
                "key": key,
                **study.step(key).parts,
                "label": study.graph.nodes[key]["label"],
                "epochs": epochs(study.step(key)),
                "stored": store is not None and key in store,
            }
            for key in study.graph
        ],
    }


def print_preview(study: Study, root: Path, data: Path, *, every_step: bool = False) -> None:
    """Print the study: a summary, the levels with their cost, and on request every step."""
    store = _open_store(root)
    stored = {key for key in study.graph if store is not None and key in store}
    console = _Console(width=None if os.isatty(1) else 120, markup=False, highlight=False)
    _print_summary(study, stored, store, console)
    forecasts: dict[bytes, list[dict[str, Any]]] = {}
    for arm in study.plan.arms:
        # Arms that only rewind otherwise leave the same networks.
        prunes = [[plan_json(group.prune), is_one_level(group), group.joined] for group in arm.rounds]
        key = canonical_json([plan_json(arm.model), plan_json(arm.data), prunes, plan_json(arm.split)])
        if key not in forecasts:
            forecasts[key] = _forecast_levels(study, arm, data)
        _print_levels(study, arm, forecasts[key], stored, console)
    if every_step:
        _print_steps(study, stored, console)


def _print_summary(study: Study, stored: set[str], store: Store | None, console: Console) -> None:
    counts = Counter(study.step(key).operation for key in study.graph)
    console.print(f"{study.plan.path}: {len(study.plan.arms)} arms, seeds {', '.join(map(str, study.plan.seeds))}")
    console.print(f"{len(study.graph)} steps: " + ", ".join(f"{n} {kind}" for kind, n in counts.items()))
    shared = study.naive_trainings - study.trainings
    console.print(f"{study.trainings} trainings ({shared} of {study.naive_trainings} are shared)")
    pending = [key for key in study.graph if key not in stored]
    epoch_counts = [epochs(study.step(key)) for key in pending if "prefix_of" not in study.graph.nodes[key]]
    total = sum(length for length in epoch_counts if length is not None)
    console.print(
        f"{len(stored)} of {len(study.graph)} results are stored; {format_brief(total)} epochs are still to train"
    )
    if total:
        console.print(_estimate_text(estimate_duration(study, pending, store, default_jobs("cpu", study))))


def _estimate_text(expected: Estimate | NoEstimate) -> str:
    if isinstance(expected, NoEstimate):
        return f"no estimate of the time: {expected.reason}"
    jobs = f"{expected.jobs} jobs" if expected.jobs > 1 else "one job"
    return (
        f"about {format_duration(expected.seconds)} with {jobs} on this machine "
        f"({format_duration(expected.low)} to {format_duration(expected.high)}, "
        f"from {expected.samples} earlier trainings)"
    )


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Who reads (head, less) has seen enough: no mistake of the plan's."""
        raise BrokenPipeError


def _print_levels(study: Study, arm: Arm, forecast: list[dict[str, Any]], stored: set[str], console: Console) -> None:
    seed = study.plan.seeds[0]
    table = Table(title=Text(f"\n{arm.id}"), title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in ("level", "params", "MACs", "sparsity", "filters left", "epochs", "measured", "stored"):
        table.add_column(name, justify="right")
    levels = [level for level in study.levels if level.arm == arm.id and level.seed == seed]
    earlier: set[str] = set()
    for number, row in enumerate(forecast):
        steps = {m.step for m in study.measurements if m.arm == arm.id and m.level == number}
        stored_count = len(steps & stored)
        required = steps.union(*(nx.ancestors(study.graph, step) for step in steps))
        new_epochs = [
            epochs(study.step(key)) for key in required - earlier if "prefix_of" not in study.graph.nodes[key]
        ]
        earlier |= required
        table.add_row(
            str(number) if number else "0 (dense)",
            f"{row['params']:,}",
            f"{row['macs']:,}",
            f"{row['sparsity']:.1%}",
            f"{row['filters']:.1%}",
            format_brief(sum(length or 0 for length in new_epochs)),
            str(len(steps)),
            f"{stored_count}/{len(steps)}",
        )
    console.print(table)
    if any(level.until is not None for level in levels) and arm.split is not None:
        console.print("at most that many levels: the parts' overlap decides how fast it goes", style="dim")
    if any(group.prune.scope == "global" and group.prune.unit == "filters" for group in arm.rounds):
        console.print("parameters and MACs are estimates: a global ranking decides which layers shrink", style="dim")


def _forecast_levels(study: Study, arm: Arm, data: Path) -> list[dict[str, Any]]:
    """What each level leaves, as ranking the untrained network has it: exact counts, estimated costs."""
    shape, classes = image_shape_and_classes(arm.data, data)
    network = dense_network(arm.model.name, canonical_json(architecture_options(arm.model.options)), classes, shape)
    structure = Structure.dense(network.graph)
    dense_state = network.module.state_dict()
    rows = [structure_metrics(network.graph, structure)]
    levels = [level for level in study.levels if level.arm == arm.id and level.seed == study.plan.seeds[0]]
    for group in arm.rounds:
        if isinstance(group.prune.amount, Matching):
            return rows  # what another arm removes is known once it has run
        times = group.prune.times if group.prune.until is None and group.prune.ends is None else len(levels)
        for index in range(times or len(levels)):
            args = prune_args(group.prune, index, times or 1, head=arm.protects_head)
            state = slice_state_dict(network.graph, dense_state, Structure.dense(network.graph), structure)
            try:
                criterion_subject = ScoringContext(network.graph, structure, state, torch.Generator().manual_seed(0))
                structure = prune(criterion_subject, {**args, "by": _forecast_criterion(args["by"])})
            except TickdslError:
                return rows
            if not group.joined and (not is_one_level(group) or index == (times or 1) - 1):
                rows.append(structure_metrics(network.graph, structure))
    return rows


def _forecast_criterion(by: str) -> str:
    """What ranks in a forecast, where weights are all there is to look at."""
    return "magnitude" if get_criterion(by).runs_network else by


def _print_steps(study: Study, stored: set[str], console: Console) -> None:
    names = short_step_names(study)
    table = Table(title="\nsteps", title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in ("step", "operation", "what", "seed", "epochs", "after", "arms", "stored"):
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


def explain_rerun(study: Study, name: str, root: Path) -> str:
    """Why a step will run again: where its key differs from the nearest stored result of its kind."""
    matches = [key for key in study.graph if key.startswith(name)]
    if len(matches) != 1:
        problem = "no step" if not matches else "several steps"
        raise TickdslError(f"--why {name}: {problem} of this plan begin so", "`tickdsl plan FILE --steps` lists them")
    store = _open_store(root)
    if store is None:
        return f"{name}: nothing is stored in {root} yet"
    return "\n".join(_explain_rerun(study, matches[0], store, set()))


def _explain_rerun(study: Study, key: str, store: Store, visited: set[str]) -> list[str]:
    step = study.step(key)
    label = f"{key[:8]} ({study.graph.nodes[key]['label']})"
    if key in store:
        return [f"{label}: stored, will not run"]
    nearest = _nearest_stored(step, store)
    if nearest is None:
        return [f"{label}: no {step.operation} step is stored"]
    changes = differences(step.parts, nearest)
    own_changes = [line for line in changes if not line.startswith("parents.")]
    lines = [f"{label}: not stored; the nearest stored {step.operation} step differs in"]
    lines += [f"  {line}" for line in own_changes]
    visited.add(key)
    for role, parent in step.parents.items():
        if parent != nearest["parents"].get(role):
            lines.append(f"  its {role}: made by another step")
            if parent not in store and parent not in visited:
                lines += [f"    {line}" for line in _explain_rerun(study, parent, store, visited)]
    return lines


def _nearest_stored(step: Step, store: Store) -> dict[str, Any] | None:
    """The parts of the stored result of this operation that differ in the fewest places."""
    best: tuple[int, dict[str, Any]] | None = None
    for key in store.keys():  # noqa: SIM118 - a store is no mapping
        parts = store.get(key).data.get("parts", {})
        if parts.get("operation") == step.operation:
            distance = len(differences(step.parts, parts))
            if best is None or distance < best[0]:
                best = (distance, parts)
    return best[1] if best else None
