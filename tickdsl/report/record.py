"""What stands at the end of a report: every seed's values, where the run took place, and what must be known."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from tickdsl.report.accuracy import folded
from tickdsl.report.document import Bullets, Cell, Code, Details, Heading, Part, Section, Table, Text
from tickdsl.report.source import Source
from tickdsl.results import words
from tickdsl.results.figures import machines
from tickdsl.results.state import RunState
from tickdsl.results.verdict import remarks, standings

_OPEN_ROWS = 30  # tables with more rows together are shown on request
_FAILURES = 20


def seeds(sources: Sequence[Source]) -> Section:
    """The accuracy of every seed: per arm a row for each contestant and round, a column per seed."""
    parts: list[Part] = []
    for source in sources:
        state = source.state
        prefix = f"{source.name}: " if len(sources) > 1 else ""
        tables = [table for arm in state.arms if (table := _seeds(state, arm.id, prefix)) is not None]
        few = sum(len(table.rows) for table in tables) <= _OPEN_ROWS and len(sources) == 1
        parts += tables if few else folded(tables, "Seeds of all {} arms")
    if not parts:
        parts = [Text("No seed was measured yet.")]
    return Section("seeds", "Seeds", tuple(parts))


def _seeds(state: RunState, arm: str, prefix: str) -> Table | None:
    found = {key: standing for key, standing in standings(state).items() if key[0] == arm}
    if not found:
        return None
    numbers = [*state.seeds, *sorted({key[3] for key in state.metrics} - set(state.seeds))]
    rows = []
    order = {name: place for place, name in enumerate(dict.fromkeys(("dense", "ticket", *state.contestants)))}
    for _, contestant, level in sorted(found, key=lambda key: (order.get(key[1], len(order)), key[2])):
        standing = found[arm, contestant, level]
        values = [state.metrics.get((arm, contestant, level, seed)) for seed in numbers]
        shown = [Cell("–" if m is None or m.accuracy is None else f"{100 * m.accuracy:.2f}") for m in values]
        where = (
            "dense" if level == 0 else f"round {level}" if contestant == "ticket" else f"{contestant}, round {level}"
        )
        rows.append((Cell(where), Cell(words.percent(standing.left)), *shown, Cell(words.accuracy(standing.accuracy))))
    columns = ("network", "weights left", *(f"seed {seed}" for seed in numbers), "mean")
    return Table(f"{prefix}{arm}: accuracy % of every seed", columns, tuple(rows))


def environment(sources: Sequence[Source]) -> Section:
    """Machine, versions, command and times of every run, side by side."""
    facts = [_facts(source) for source in sources]
    names = list(dict.fromkeys(name for found in facts for name in found))
    rows = tuple((Cell(name), *(Cell(found.get(name, "–")) for found in facts)) for name in names)
    columns = ("", *(source.name for source in sources))
    table = Table("Where and how it ran", columns, rows, frozenset(range(len(columns))))
    return Section("environment", "Environment", (table,))


def _facts(source: Source) -> dict[str, str]:
    state, run = source.state, source.state.run
    if run is None:
        return {}
    begun = _moment(state.started)
    facts = {
        "status": source.status,
        "begun": begun,
        "ended": _moment(state.ended),
        "attempts": str(state.attempts),
        "plan": run.path,
        "command": " ".join(run.argv),
        "device": run.device,
        "jobs": str(run.jobs),
        "host": run.host,
        "store": run.store,
    }
    return {**facts, **{name: str(version) for name, version in run.versions.items()}}


def _moment(t: float | None) -> str:
    return "–" if t is None else datetime.datetime.fromtimestamp(t, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def notes(sources: Sequence[Source]) -> Section:
    """Failed steps, what must be known to read the figures, defaults that were filled in, and warnings."""
    parts: list[Part] = []
    for source in sources:
        found = _notes(source)
        if found and len(sources) > 1:
            parts.append(Heading(source.name))
        parts += found
    return Section("notes", "Notes and warnings", tuple(parts or [Text("None.")]))


def _notes(source: Source) -> list[Part]:
    state = source.state
    parts: list[Part] = []
    failed = [step for step in state.steps.values() if step.status == "failed"]
    for step in failed[:_FAILURES]:
        where = ", ".join(step.info.arms)
        parts.append(Text(f"{step.info.label} ({where}) failed: {step.error or 'no reason given'}", "alarm"))
    if len(failed) > _FAILURES:
        parts.append(Text(f"{len(failed) - _FAILURES} more steps failed.", "alarm"))
    traces = [message for _, message in state.log if "\n" in message.strip()]
    if failed and traces:
        parts.append(Details("The last traceback", (Code(traces[-1].rstrip() + "\n", "pytb"),)))
    warnings = dict.fromkeys(f"{w.message} [{w.code}]" if w.code else w.message for w in state.warnings)
    said = [*remarks(state), *machines(state), *state.notes, *(f"warning: {warning}" for warning in warnings)]
    if said:
        parts.append(Bullets(tuple(said)))
    return parts
