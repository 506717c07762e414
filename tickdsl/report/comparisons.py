"""The section that compares arms with each other: a table for every two names, with a row per pair of rounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tickdsl.plurals import agreeing, plural
from tickdsl.records.events import MetricInfo
from tickdsl.report.document import Cell, Details, Part, Section, Table, Text, as_cell
from tickdsl.report.source import ReportSource
from tickdsl.results import formatting
from tickdsl.results.answers import answer
from tickdsl.results.arm_differences import ArmDifference, MatchedLevels, arm_differences
from tickdsl.results.conclusions import dependences
from tickdsl.results.run_differences import run_differences
from tickdsl.results.scores import ACCURACY, heading, of_difference
from tickdsl.results.scores import difference as score_difference
from tickdsl.results.standings import AHEAD, BEHIND

#: If there are more tables, they are collapsed.
_MAX_OPEN_TABLES = 3
_MAX_TABLES = 40
_MAX_SENTENCES = 6  # below a table
_MARKS = {AHEAD: "winning", BEHIND: "losing"}
_LEFT = {"weights": "weights left", "level": "weights left", "flops": "FLOPs left", "params": "parameters left"}


def comparison_section(sources: Sequence[ReportSource]) -> Iterator[Section]:
    """A table for every two arms that are compared, within the runs and between them; nothing if there are none."""
    parts: list[Part] = []
    tables: list[tuple[str, Table]] = []  # with a summary
    linked: list[str] = []
    for source in sources:
        prefix = f"{source.name}: " if len(sources) > 1 else ""
        found = arm_differences(source.state)
        tables += _tables(found, prefix)
        if found:
            linked += [f"{prefix}{', '.join(arms)}: {clause}." for clause, arms in dependences(source.state).items()]
    between = run_differences({source.name: source.state for source in sources})
    tables += _tables(between.differences, "")
    if len(tables) <= _MAX_OPEN_TABLES:
        parts += [table for _, table in tables]
    else:
        parts += [Details(summary, (table,)) for summary, table in tables[:_MAX_TABLES]]
        if (rest := len(tables) - _MAX_TABLES) > 0:
            tables_are = f"{plural(rest, 'more table')} {agreeing(rest, 'is')}"
            parts.append(Text(f"{tables_are} left out; results.json has all of one run.", "note"))
    parts += [Text(note, "note") for note in (*linked, *between.notes)]
    if parts:
        yield Section("comparison", "Arms against each other", tuple(parts))


def _tables(differences: Sequence[ArmDifference], prefix: str) -> Iterator[tuple[str, Table]]:
    """A table for every two names: where they differ in a sweep that others share, along the values of that one.

    With each is its summary: the answer if it is one, else the caption of the table.
    """
    groups: dict[tuple[str, str, MetricInfo], list[ArmDifference]] = {}
    for difference in differences:
        groups.setdefault((difference.first_name, difference.second_name, difference.metric), []).append(difference)
    for (first, second, _), group in groups.items():
        table = _table(first, second, group, prefix)
        yield (f"{prefix}{answer(group[0])}" if len(group) == 1 else table.caption), table


def _table(first: str, second: str, group: Sequence[ArmDifference], prefix: str) -> Table:
    # Events of a later version may match rounds in ways that are unknown here.
    left = _LEFT.get(group[0].matched_by, _LEFT["weights"])
    along, metric = len(group) > 1, group[0].metric
    columns = (
        *(("for",) if along else ()),
        f"round of {first}", f"round of {second}", f"{left}, {first}", f"{left}, {second}",
        _difference_heading(first, second, metric), f"verdict on {first}",
    )  # fmt: skip
    rows = [row for difference in group for row in _rows(difference, along)]
    of = "" if along or not group[0].context else f" ({group[0].context})"
    return Table(
        f"{prefix}{first} against {second}{of}",
        columns,
        tuple(tuple(map(as_cell, row)) for row in rows),
        frozenset({0, len(columns) - 1} if along else {len(columns) - 1}),
        " ".join([*(f"{answer(difference)}." for difference in group[:_MAX_SENTENCES]), *_unmatched(group, along)]),
    )


def _difference_heading(first: str, second: str, metric: MetricInfo) -> str:
    """The heading of the differences, with the metric unless it is the accuracy."""
    what = f"{first} minus {second}"
    return of_difference(what, metric) if metric == ACCURACY else f"{heading(metric)}, {what}"


def _rows(difference: ArmDifference, along: bool) -> Iterator[list[str | Cell]]:
    context: list[str | Cell] = [difference.context or "–"] if along else []
    if not difference.levels:
        yield [*context, "–", "–", "–", "–", "–", "none: no rounds match"]
    for level in difference.levels:
        yield [*context, *_row(level, difference.metric)]


def _row(level: MatchedLevels, metric: MetricInfo) -> list[str | Cell]:
    return [
        str(level.first_level),
        str(level.second_level),
        formatting.percent(level.first_left),
        formatting.percent(level.second_left),
        score_difference(metric, level.difference),
        Cell(level.verdict or f"none: {level.no_verdict}", _MARKS.get(level.verdict or "", level.verdict or "")),
    ]


def _unmatched(group: Sequence[ArmDifference], along: bool) -> Iterator[str]:
    """The rounds of each arm that no round of the other one matches."""
    for difference in group:
        clauses = [
            f"{agreeing(len(rounds), 'round')} {', '.join(map(str, rounds))} of {name}"
            for name, rounds in (
                (difference.first_name, difference.first_unmatched),
                (difference.second_name, difference.second_unmatched),
            )
            if rounds
        ]
        if clauses:
            context = f" for {difference.context}" if along and difference.context else ""
            yield f"Not matched{context}: {' and '.join(clauses)}."
