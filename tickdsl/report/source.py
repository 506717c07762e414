"""Reads the runs to report on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from tickdsl.printable import printable
from tickdsl.records.paths import RunPaths
from tickdsl.records.run_events import events_age
from tickdsl.results.liveness import effective_status
from tickdsl.results.pictures import read_pictures
from tickdsl.results.state import MetricKey, RunState
from tickdsl.results.state_builder import read_run


@attrs.frozen
class ReportSource:
    """A run to report on: its state and the text of its plan.

    `status` is the effective status, which includes crashed engines; `name` is the name of the run and its folder.
    `pictures` are those that networks make, as PNG files.
    """

    state: RunState
    plan: str
    status: str
    name: str = attrs.field()
    pictures: Mapping[MetricKey, bytes] = attrs.field(factory=dict, kw_only=True, repr=False)

    @name.default
    def _default_name(self) -> str:
        return self.state.run.run if self.state.run else "run"


def read_source(paths: RunPaths) -> ReportSource:
    """Read a run from its folder. Raises TickdslError if it contains no events or the run has not started."""
    return source_from_state(read_run(paths), paths)


def source_from_state(state: RunState, paths: RunPaths) -> ReportSource:
    """The source for an already loaded state of the run at `paths`."""
    try:
        plan = printable(paths.plan.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        plan = ""  # a partly copied folder may lack the plan
    status = effective_status(state, events_age(paths))
    return ReportSource(state, plan, status, pictures=read_pictures(state, paths))


def with_short_names(sources: Sequence[ReportSource]) -> list[ReportSource]:
    """Name several runs after their plans if the plan names are distinct."""
    plans = [source.state.run.plan if source.state.run else "" for source in sources]
    if len(sources) == 1 or "" in plans or len(set(plans)) < len(plans):
        return list(sources)
    return [attrs.evolve(source, name=plan) for source, plan in zip(sources, plans, strict=True)]
