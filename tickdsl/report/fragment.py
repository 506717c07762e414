"""The results of a run as a piece of HTML, for the output of a notebook cell."""

from __future__ import annotations

from tickdsl.plurals import plural
from tickdsl.report.compose import failure_notice, header_facts
from tickdsl.report.document import Bullets, Part
from tickdsl.report.html import render_fragment
from tickdsl.report.outcomes import headline
from tickdsl.report.rounds import collapsed_tables, rounds_table
from tickdsl.report.source import ReportSource
from tickdsl.results.answers import answers
from tickdsl.results.conclusions import conclusions
from tickdsl.results.standings import compute_standings

#: The tables of more arms are collapsed.
_MAX_OPEN_TABLES = 3
#: Of more pairs of arms, the rest is in the report and in results.json.
_MAX_ANSWERS = 12


def results_fragment(source: ReportSource) -> str:
    """The main result of a run, a table of rounds per arm, and sentences on arms and pairs. Names are escaped."""
    state = source.state
    standings = compute_standings(state)
    tables = [rounds_table(arm, standings, state, arm.id) for arm in state.arms]
    parts: list[Part] = [*tables]
    if len(tables) > _MAX_OPEN_TABLES:
        parts = collapsed_tables(tables, f"Rounds of {plural(len(tables), 'arm')}")
    if state.metrics:
        parts.append(Bullets((*conclusions(state).values(), *answers(state)[:_MAX_ANSWERS])))
    return render_fragment(header_facts(source), failure_notice(source), headline(state), parts)
