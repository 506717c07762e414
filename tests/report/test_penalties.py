"""The factor of a growing penalty in the report and in the charts of the monitor."""

from __future__ import annotations

import re

import attrs
from recorded_run import recorded_events, snapshot
from tickdsl.tui.views import detail, run_charts
from tickdsl.tui.views.glyphs import DARK

from tickdsl.records import EventRecord
from tickdsl.records.events import StepProgress
from tickdsl.report.document import Figure, Panels, Table
from tickdsl.report.penalties import penalties_section
from tickdsl.report.source import ReportSource
from tickdsl.results.state_builder import build_state


def _with_a_penalty() -> tuple[str, list[EventRecord]]:
    """A step of a recording, whose progress now has the factor epoch / 10, and the recording."""
    records = list(recorded_events())
    step = next(record.event.step for record in records if isinstance(record.event, StepProgress))
    for number, record in enumerate(records):
        if isinstance(record.event, StepProgress) and record.event.step == step:
            event = attrs.evolve(record.event, penalty=record.event.epoch / 10)
            records[number] = attrs.evolve(record, event=event)
    return step, records


def test_the_report_has_a_table_and_a_drawing_of_the_factor() -> None:
    step, records = _with_a_penalty()
    state = build_state(records)
    history = state.steps[step].history
    (section,) = penalties_section([ReportSource(state, "", "ok")])
    (panels,) = (part for part in section.parts if isinstance(part, Panels))
    (table,) = (part for part in panels.parts if isinstance(part, Table))
    assert len(table.rows) == min(12, len(history))
    assert table.rows[-1][0].text == f"{history[-1].epoch:g}"
    assert all(float(row[1].text) == float(row[0].text) / 10 for row in table.rows)
    (figure,) = (part for part in panels.parts if isinstance(part, Figure))
    line = re.search(r'points="([^"]+)"', figure.wide())
    assert line is not None
    heights = [float(point.split(",")[1]) for point in line[1].split()]
    assert len(heights) == len(history) + 1 and heights == sorted(heights, reverse=True)


def test_a_report_without_penalties_has_no_section_on_them() -> None:
    assert penalties_section([ReportSource(build_state(recorded_events()), "", "ok")]) == []


def test_the_monitor_draws_the_factor_of_trainings_that_have_one() -> None:
    step, records = _with_a_penalty()
    now, factor = snapshot(records), run_charts.METRICS.index("factor of the penalty")
    assert factor in run_charts.available_metrics(now)
    assert factor not in run_charts.available_metrics(snapshot(recorded_events()))
    (curve,) = run_charts.metric_chart(now, factor, False, False, DARK, (step,)).curves
    assert [(point.x, point.y) for point in curve.points] == [
        (point.epoch, point.epoch / 10) for point in now.state.steps[step].history
    ]
    last = now.state.steps[step].history[-1]
    assert any(line.split() == ["penalty", f"{last.epoch / 10:.4g}"] for line in detail.step_lines(step, now))
