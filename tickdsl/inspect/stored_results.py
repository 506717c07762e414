"""The results of a study that are stored, as the state of a run that has measured them."""

from __future__ import annotations

import contextlib
from collections.abc import Collection

from tickdsl.engine.scheduler.event_builders import metric_event, plan_resolved_event, short_step_names
from tickdsl.plan.study import Study
from tickdsl.records.event_decode import EventRecord
from tickdsl.records.events import Event
from tickdsl.records.store import Store
from tickdsl.results import RunState, build_state


def stored_results(study: Study, store: Store, stored: Collection[str]) -> RunState:
    """The state of a run of `study` that has measured what is stored; `stored` are the keys that `store` has."""
    names = short_step_names(study)
    events: list[Event] = [plan_resolved_event(study, lambda key: key in stored)]
    for m in study.measurements:
        if m.step in stored and not m.report_metric:
            with contextlib.suppress(KeyError):  # damaged: it will be measured again
                events.append(metric_event(m, store.get(m.step).metrics, names[m.step]))
    return build_state(EventRecord(number, 0.0, event) for number, event in enumerate(events))
