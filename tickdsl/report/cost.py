"""The cost section: steps and time, savings from sharing and the store, and the cost of the networks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import attrs

from tickdsl.figures.curves import metrics_of
from tickdsl.percentages import percent
from tickdsl.plurals import plural
from tickdsl.records.events import MetricInfo
from tickdsl.report.arm_symbols import ArmSymbols
from tickdsl.report.document import Cell, Details, Part, Section, Table, Text
from tickdsl.report.outcomes import MAX_ARMS_SHOWN, outcomes
from tickdsl.report.source import ReportSource
from tickdsl.results import formatting
from tickdsl.results.budgets import budgets
from tickdsl.results.device_time import device_time, hours_in_words, workers_now
from tickdsl.results.scores import heading, label
from tickdsl.results.scores import score as format_score
from tickdsl.results.standings import compute_standings
from tickdsl.results.state import RunState, StepState
from tickdsl.results.worker_uses import WorkerUse, idle_share, place_of

#: Longer tables are collapsed.
_MAX_OPEN_ROWS = 30
_STATUSES = ("done", "stored", "skipped", "failed", "running", "waiting")
_KINDS = (
    "init", "train", "prune", "refill", "regroup", "grow", "overlap", "random-structure", "elastic", "evaluate",
)  # fmt: skip


def cost_section(sources: Sequence[ReportSource], symbols: ArmSymbols) -> Section:
    """For each run, a summary, a table of its steps by operation, and a table of the network costs of its arms."""
    parts: list[Part] = []
    for source in sources:
        state = source.state
        prefix = f"{source.name}: " if len(sources) > 1 else ""
        if state.steps:
            parts += [Text(prefix + _summary(state)), _steps(state, prefix)]
        if state.uses:
            workers = _workers(state, prefix)
            parts.append(workers if len(workers.rows) <= _MAX_OPEN_ROWS else Details(workers.caption, (workers,)))
        if len(state.transfers) > 1:
            parts.append(_transfers(state, prefix))
        if state.metrics:
            table = _arms(source, symbols, prefix)
            parts.append(table if len(table.rows) <= MAX_ARMS_SHOWN else Details(table.caption, (table,)))
            for spent in _budgets(source, prefix):
                parts.append(spent if len(spent.rows) <= _MAX_OPEN_ROWS else Details(spent.caption, (spent,)))
    if not parts:
        parts = [Text("The run has no steps yet.")]
    return Section("cost", "Cost and time", tuple(parts))


def _summary(state: RunState) -> str:
    trainings = [step for step in state.steps.values() if step.info.operation == "train"]
    done = [step for step in trainings if step.status == "done" and step.seconds > 0]
    stored = [step for step in trainings if step.status == "stored"]
    shared = sum(len(step.info.arms) - 1 for step in trainings if step.info.arms and step.status != "skipped")
    sentences = [
        f"Total time {formatting.training_time(state.elapsed)}",
        f"{plural(len(done), 'training')} ({_epochs(done)} epochs) took {formatting.training_time(_seconds(done))}",
    ]
    if stored:
        saved = sum(float(step.metrics.get("train_time") or 0.0) for step in stored)
        sentences.append(
            f"{plural(len(stored), 'training')} reused from the store, saving {formatting.training_time(saved)}"
        )
    if shared:
        sentences.append(f"sharing between arms saved {plural(shared, 'training')}")
    moved = f" {formatting.transfers(state.transfers.values())}." if state.transfers else ""
    return "; ".join(sentences) + f". {_device_hours(state)}.{moved}"


def _device_hours(state: RunState) -> str:
    """A sentence: what the study has cost, and will."""
    time = device_time(state)
    parts = [f"{hours_in_words(time.used)} device hours used"]
    if time.idle is not None:
        parts[0] += f" ({plural(len(state.uses), 'worker')}, idle {percent(time.idle, 0)} of the time)"
    if time.stored:
        parts.append(f"{hours_in_words(time.stored)} of earlier runs reused")
    if time.left is not None:
        parts.append(f"about {hours_in_words(time.left)} to go")
    return ", ".join(parts)


def _workers(state: RunState, prefix: str) -> Table:
    """What each worker did; the workers of a node or a device together if there are many."""
    uses = workers_now(state)
    grouped = len(uses) > _MAX_OPEN_ROWS
    groups: dict[str, list[WorkerUse]] = {}
    for name, use in uses.items():
        groups.setdefault((place_of(name) or "this machine") if grouped else name or "a worker", []).append(use)
    rows = []
    for name, group in groups.items():
        figures = [
            *([str(len(group))] if grouped else []),
            str(sum(use.steps for use in group)),
            formatting.training_time(sum(use.busy for use in group)),
            formatting.training_time(sum(use.present for use in group)),
            percent(idle_share(group) or 0.0, 0),
        ]
        rows.append((Cell(name), *map(Cell, figures)))
    columns = ("node", "workers") if grouped else ("worker",)
    return Table(
        f"{prefix}Workers",
        (*columns, "steps", "busy", "in the run", "idle"),
        tuple(rows),
        note="In the run: from a worker's first step to the end of the run, without pauses and earlier attempts' gaps.",
    )


def _transfers(state: RunState, prefix: str) -> Table:
    """What each machine moved to and from the bucket."""
    rows = [
        (
            Cell(host),
            Cell(f"{moved.requests:,}"),
            *(Cell(formatting.quantity(n, "B")) for n in (moved.received, moved.sent)),
        )
        for host, moved in sorted(state.transfers.items())
    ]
    return Table(
        f"{prefix}Transfers to and from the bucket",
        ("machine", "requests", "received", "sent"),
        tuple(rows),
        note="Claims, events and checkpoints are included; a long listing or a large file counts as one request.",
    )


def _steps(state: RunState, prefix: str) -> Table:
    statuses = [status for status in _STATUSES if state.count(status)]
    steps = list(state.steps.values())
    kinds = sorted({step.info.operation for step in steps}, key=lambda kind: (*_KINDS, kind).index(kind))
    groups = [(kind, [step for step in steps if step.info.operation == kind]) for kind in kinds]
    rows = [_operation_row(name, group, statuses) for name, group in [*groups, ("all", steps)]]
    columns = ("operation", "steps", "shared", *statuses, "epochs", "time")
    return Table(f"{prefix}Steps", columns, tuple(rows), note="Shared: needed by more than one arm, computed once.")


def _operation_row(name: str, steps: Sequence[StepState], statuses: Iterable[str]) -> tuple[Cell, ...]:
    counts = [sum(step.status == status for step in steps) for status in statuses]
    done = [
        step for step in steps if step.status == "done" and step.seconds > 0
    ]  # 0 seconds: computed along with another step
    shared = sum(len(step.info.arms) > 1 for step in steps)
    figures = [
        str(len(steps)),
        str(shared),
        *map(str, counts),
        _epochs(done),
        formatting.training_time(_seconds(steps)),
    ]
    return (Cell(name), *map(Cell, figures))


def _arms(source: ReportSource, symbols: ArmSymbols, prefix: str) -> Table:
    state = source.state
    rows = []
    time = device_time(state)
    for o in outcomes(state, compute_standings(state)):
        steps = [step for step in state.steps.values() if o.arm.id in step.info.arms]
        sizes = []
        for name in ("params", "macs", "seconds"):
            for standing in (o.dense, o.winner):
                value = None if standing is None else getattr(standing, name)
                sizes.append(
                    "–"
                    if value is None
                    else (formatting.training_time if name == "seconds" else formatting.count)(value)
                )
        mark = Cell(o.arm.id, symbol=symbols.svg_for(source.name, o.arm.id))
        all_time = sum(float(step.metrics.get("train_time") or step.seconds) for step in steps)
        rows.append(
            (
                mark,
                *map(Cell, sizes),
                Cell(str(len(steps))),
                Cell(formatting.training_time(all_time)),
                Cell(hours_in_words(time.used_by_arm.get(o.arm.id, 0.0) + time.stored_by_arm.get(o.arm.id, 0.0))),
            )
        )
    return Table(
        f"{prefix}Cost of the networks",
        (
            "arm", "params, dense", "params, winning", "MACs, dense", "MACs, winning",
            "training, dense", "training, winning", "steps", "total time", "device hours",
        ),
        tuple(rows),
        note=(
            "Winning: the smallest winning ticket. MACs are multiply-accumulate operations for one input; masked "
            "weights are still multiplied and therefore count. The time of a shared step counts for each of its arms; "
            "of its device hours, each arm has an equal part, and so of those of earlier runs."
        ),
    )  # fmt: skip


def _budgets(source: ReportSource, prefix: str) -> Iterator[Table]:
    """The training that every network took, beside its score: a table for each metric, if trainings counted images."""
    metrics = metrics_of({"": source.state})
    for metric in metrics:
        table = _budgets_of(source, prefix, metric)
        if table is not None:
            caption = f"{table.caption}, by {label(metric)}" if len(metrics) > 1 else table.caption
            yield attrs.evolve(table, caption=caption)


def _budgets_of(source: ReportSource, prefix: str, metric: MetricInfo) -> Table | None:
    standings, rows = compute_standings(source.state), []
    for key, budget in sorted(budgets(source.state).items(), key=lambda item: (item[0][0], item[0][2], item[0][1])):
        arm, contestant, level = key
        standing = standings.get(key)
        if source.state.metric_of(arm) != metric:
            continue
        score = format_score(metric, standing.score if standing is not None else None)
        time = "–" if budget.seconds is None else formatting.training_time(budget.seconds)
        figures = (str(level), score, f"{budget.epochs:.4g}", formatting.count(budget.images), time)
        rows.append((Cell(arm), Cell(contestant), *map(Cell, figures)))
    if not rows:
        return None
    return Table(
        f"{prefix}Training that led to each network",
        ("arm", "network", "level", heading(metric), "epochs", f"{source.state.sample_of()}s", "time"),
        tuple(rows),
        frozenset({0, 1}),
        note=(
            "For a ticket, over all trainings that it comes from: the dense network and all earlier rounds. Controls "
            "are given their structure, so only their own training counts; `compare … budget=total` makes it as long. "
            "An epoch on a part of the data counts as one."
        ),
    )


def _epochs(steps: Iterable[StepState]) -> str:
    return f"{sum(step.info.epochs or 0.0 for step in steps):g}"


def _seconds(steps: Iterable[StepState]) -> float:
    return sum(step.seconds for step in steps)
