"""A run to report on, read from its folder."""

from __future__ import annotations

import time
from collections.abc import Sequence

import attrs

from tickdsl.errors import TickdslError
from tickdsl.records.event_log import read_events
from tickdsl.records.paths import RunPaths
from tickdsl.results.liveness import effective_status
from tickdsl.results.state import RunState
from tickdsl.results.state_builder import build_state


@attrs.frozen
class ReportSource:
    """A run as its events tell it, with the text of its plan. `status` also knows of engines that died.
    `name` is the run's, which its folder has."""

    state: RunState
    plan: str
    status: str
    name: str = attrs.field()

    @name.default
    def _default_name(self) -> str:
        return self.state.run.run if self.state.run else "run"


def read_source(paths: RunPaths) -> ReportSource:
    """What the folder of a run tells. Raises TickdslError where it holds no event of a run."""
    if not paths.events.exists():
        raise TickdslError(f"{paths.folder} holds no run: it has no events.jsonl", "`tickdsl ls` lists the runs")
    state = build_state(read_events(paths.events))
    if state.run is None:
        raise TickdslError(f"{paths.events} tells of no run yet", "look again when the run has begun")
    return source_from_state(state, paths)


def source_from_state(state: RunState, paths: RunPaths) -> ReportSource:
    """The run of `state`, whose folder is at `paths`."""
    try:
        plan = paths.plan.read_text(errors="replace")
    except OSError:
        plan = ""  # folders are copied in part; the figures still stand
    return ReportSource(state, plan, effective_status(state, time.time()))


def with_short_names(sources: Sequence[ReportSource]) -> list[ReportSource]:
    """Runs beside each other under the names of their plans, where these tell them apart."""
    plans = [source.state.run.plan if source.state.run else "" for source in sources]
    if len(sources) == 1 or "" in plans or len(set(plans)) < len(plans):
        return list(sources)
    return [attrs.evolve(source, name=plan) for source, plan in zip(sources, plans, strict=True)]
