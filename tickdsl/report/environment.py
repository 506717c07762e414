"""The environment section: machine, versions, command and times of each run."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from tickdsl.printable import printable
from tickdsl.report.document import Cell, Section, Table
from tickdsl.report.source import ReportSource


def environment_section(sources: Sequence[ReportSource]) -> Section:
    """One table with a column for each run."""
    facts = [_environment_facts(source) for source in sources]
    names = list(dict.fromkeys(name for run_facts in facts for name in run_facts))
    rows = tuple((Cell(name), *(Cell(run_facts.get(name, "–")) for run_facts in facts)) for name in names)
    columns = ("", *(source.name for source in sources))
    table = Table("Machine, versions and times", columns, rows, frozenset(range(len(columns))))
    return Section("environment", "Environment", (table,))


def _environment_facts(source: ReportSource) -> dict[str, str]:
    state, run = source.state, source.state.run
    if run is None:
        return {}
    facts = {
        "status": source.status,
        "started": _utc_time(state.started),
        "ended": _utc_time(state.ended),
        "attempts": str(state.attempts),
        "plan": run.path,
        "command": " ".join(run.argv),
        "device": run.device,
        "jobs": str(run.jobs) if not run.workers else run.jobs_in_words,
        "host": run.host,
        "store": printable(run.store),
    }
    return {**facts, **{name: str(version) for name, version in run.versions.items()}}


def _utc_time(t: float | None) -> str:
    try:
        return "–" if t is None else datetime.datetime.fromtimestamp(t, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):  # no time that a calendar knows
        return "–"
