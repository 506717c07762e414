"""What stands at the end of a report: every seed's values, where the run took place, and what must be known."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from tickdsl.report.accuracy import collapsed_tables
from tickdsl.report.document import Bullets, Cell, Code, Details, Heading, Part, Section, Table, Text
from tickdsl.report.source import ReportSource
from tickdsl.results import formatting
from tickdsl.results.extra_metrics import machine_notes
from tickdsl.results.state import RunState
from tickdsl.results.verdict import caveats, compute_standings

_OPEN_ROWS = 30  # tables with more rows together are shown on request
_MAX_FAILURES = 20


def seeds_section(sources: Sequence[ReportSource]) -> Section:
    """The accuracy of every seed: per arm a row for each contestant and round, a column per seed."""
    parts: list[Part] = []
    for source in sources:
        state = source.state
        prefix = f"{source.name}: " if len(sources) > 1 else ""
        tables = [table for arm in state.arms if (table := _seeds(state, arm.id, prefix)) is not None]
        few = sum(len(table.rows) for table in tables) <= _OPEN_ROWS and len(sources) == 1
        parts += tables if few else collapsed_tables(tables, "Seeds of all {} arms")
    if not parts:
        parts = [Text("No seed was measured yet.")]
    return Section("seeds", "Seeds", tuple(parts))


def _seeds(state: RunState, arm: str, prefix: str) -> Table | None:
    standings = {key: standing for key, standing in compute_standings(state).items() if key[0] == arm}
    if not standings:
        return None
    seed_numbers = [*state.seeds, *sorted({key[3] for key in state.metrics} - set(state.seeds))]
    rows = []
    order = {name: place for place, name in enumerate(dict.fromkeys(("dense", "ticket", *state.contestants)))}
    for _, contestant, level in sorted(standings, key=lambda key: (order.get(key[1], len(order)), key[2])):
        standing = standings[arm, contestant, level]
        values = [state.metrics.get((arm, contestant, level, seed)) for seed in seed_numbers]
        shown = [
            Cell("–" if metric is None or metric.accuracy is None else f"{100 * metric.accuracy:.2f}")
            for metric in values
        ]
        network = (
            "dense" if level == 0 else f"round {level}" if contestant == "ticket" else f"{contestant}, round {level}"
        )
        rows.append(
            (
                Cell(network),
                Cell(formatting.percent(standing.density)),
                *shown,
                Cell(formatting.accuracy(standing.accuracy)),
            )
        )
    columns = ("network", "weights left", *(f"seed {seed}" for seed in seed_numbers), "mean")
    return Table(f"{prefix}{arm}: accuracy % of every seed", columns, tuple(rows))


def environment_section(sources: Sequence[ReportSource]) -> Section:
    """Machine, versions, command and times of every run, side by side."""
    facts = [_environment_facts(source) for source in sources]
    names = list(dict.fromkeys(name for run_facts in facts for name in run_facts))
    rows = tuple((Cell(name), *(Cell(run_facts.get(name, "–")) for run_facts in facts)) for name in names)
    columns = ("", *(source.name for source in sources))
    table = Table("Where and how it ran", columns, rows, frozenset(range(len(columns))))
    return Section("environment", "Environment", (table,))


def _environment_facts(source: ReportSource) -> dict[str, str]:
    state, run = source.state, source.state.run
    if run is None:
        return {}
    begun = _utc_time(state.started)
    facts = {
        "status": source.status,
        "begun": begun,
        "ended": _utc_time(state.ended),
        "attempts": str(state.attempts),
        "plan": run.path,
        "command": " ".join(run.argv),
        "device": run.device,
        "jobs": str(run.jobs),
        "host": run.host,
        "store": run.store,
    }
    return {**facts, **{name: str(version) for name, version in run.versions.items()}}


def _utc_time(t: float | None) -> str:
    return "–" if t is None else datetime.datetime.fromtimestamp(t, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def notes_section(sources: Sequence[ReportSource]) -> Section:
    """Failed steps, what must be known to read the figures, defaults that were filled in, and warnings."""
    parts: list[Part] = []
    for source in sources:
        run_notes = _notes(source)
        if run_notes and len(sources) > 1:
            parts.append(Heading(source.name))
        parts += run_notes
    return Section("notes", "Notes and warnings", tuple(parts or [Text("None.")]))


def _notes(source: ReportSource) -> list[Part]:
    state = source.state
    parts: list[Part] = []
    failed = [step for step in state.steps.values() if step.status == "failed"]
    for step in failed[:_MAX_FAILURES]:
        where = ", ".join(step.info.arms)
        parts.append(Text(f"{step.info.label} ({where}) failed: {step.error or 'no reason given'}", "alarm"))
    if len(failed) > _MAX_FAILURES:
        parts.append(Text(f"{len(failed) - _MAX_FAILURES} more steps failed.", "alarm"))
    traces = [message for _, message in state.log if "\n" in message.strip()]
    if failed and traces:
        parts.append(Details("The last traceback", (Code(traces[-1].rstrip() + "\n", "pytb"),)))
    warnings = dict.fromkeys(f"{w.message} [{w.code}]" if w.code else w.message for w in state.warnings)
    items = [*caveats(state), *machine_notes(state), *state.notes, *(f"warning: {warning}" for warning in warnings)]
    if items:
        parts.append(Bullets(tuple(items)))
    return parts
