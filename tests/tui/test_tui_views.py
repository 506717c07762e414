"""The content of the screens for any prefix of a recording: no exceptions, and every line has the right width."""

import functools
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded_run import PLAN, StubSource, events_until_midway, events_with_failure, recorded_events, snapshot
from task_runs import DEGREES, ERROR, MIOU, PSNR, RMSE, two_tasks
from tickdsl.tui.feed import Feed
from tickdsl.tui.snapshot_builder import SnapshotBuilder
from tickdsl.tui.views import arms, compare, detail, layers, log, pareto, plan, run_charts, status, tree
from tickdsl.tui.views.braille_chart import draw_chart
from tickdsl.tui.views.glyphs import DARK, LIGHT
from tickdsl.tui.views.snapshot import Snapshot
from written_runs import write_run

from tickdsl.records import EventRecord, read_events
from tickdsl.records.events import CLASSIFY, Measure, Metric, MetricInfo, Resource, RunEnd
from tickdsl.results.scores import ACCURACY, description
from tickdsl.results.standings import compute_standings
from tickdsl.results.state import FINISHED_STATUSES

WIDTHS = st.integers(30, 140)
moment = functools.cache(lambda cut: snapshot(recorded_events()[:cut]))


def everything(now: Snapshot, width: int) -> list[str]:
    """Every line that a screen could show for a snapshot."""
    lines = []
    folding = tree.TreeExpansion()
    for row in tree.tree_rows(now, folding):
        folding = folding.with_expanded(row.path, True)
    lines += [tree.tree_line(row, width, DARK) for row in tree.tree_rows(now, folding)]
    lines += [arms.arm_line(row, width, DARK) for row in arms.arm_rows(now)]
    for selection in compare.selections(now):
        lines += [compare.compare_line(row, width, LIGHT) for row in compare.compare_rows(now, selection)]
    for arm in now.arm_indices:
        for selection in layers.available_selections(now, arm):
            rows = layers.layer_rows(now, selection)
            columns = layers.layout(rows, width)
            lines += [layers.layer_line(row, columns, DARK) for row in rows]
    lines += [log.log_line(log.as_log_row(row, now), width, DARK) for row in log.log_rows(now)]
    charts = [
        run_charts.metric_chart(now, metric, scale, controls, DARK, ())
        for metric in range(len(run_charts.METRICS))
        for scale in (False, True)
        for controls in (False, True)
    ]
    charts += [pareto.pareto_chart(now, cost, scale, DARK) for cost in (0, 1) for scale in (False, True)]
    lines += [line for chart in charts for line in draw_chart(chart, width, 12, DARK.ink, DARK.dim)]
    assert all(line.cell_len <= width for line in lines), [line.plain for line in lines if line.cell_len > width]
    for step in now.state.steps:
        detail.step_lines(step, now)
    plan.plan_lines(PLAN, now)
    status.title_line(now, width, DARK)
    return [line.plain for line in lines]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, len(recorded_events())), WIDTHS)
def test_any_prefix_of_a_recording_can_be_shown(cut: int, width: int) -> None:
    everything(moment(cut), width)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, len(recorded_events())),
    st.sampled_from(["", "imp", "colt seed", "conv", "[", "no such thing", "é\x1b"]),
)
def test_any_filter_shows_no_more_than_there_is(cut: int, words: str) -> None:
    whole = snapshot(recorded_events()[:cut])
    some = snapshot(recorded_events()[:cut], words)
    everything(some, 80)
    assert {row.id for row in arms.arm_rows(some)} <= {row.id for row in arms.arm_rows(whole)}
    assert len(log.log_rows(some)) <= len(log.log_rows(whole))


def test_the_tree_counts_every_step_of_an_arm_once() -> None:
    now = moment(len(recorded_events()))
    rows = {row.label: row for row in tree.tree_rows(now, tree.TreeExpansion()) if len(row.path) == 1}
    for arm in now.state.arms:
        steps = [step for step in now.state.steps.values() if arm.id in step.info.arms]
        done = sum(step.status in FINISHED_STATUSES for step in steps)
        skipped = sum(step.status == "skipped" for step in steps)
        assert rows[arm.id].note == f"{done}/{len(steps) - skipped}"


def test_a_step_belongs_to_the_round_that_needs_it() -> None:
    now = moment(300)
    for name, step in now.state.steps.items():
        label = step.info.label
        if label.startswith("prune round "):
            assert now.outline.levels[name] == int(label.rsplit(" ", 1)[1])
        if label == "dense":
            assert now.outline.levels[name] == 0


def test_what_runs_is_open_and_what_a_person_closed_is_not() -> None:
    now = moment(300)
    running = tree.running_path(now)
    assert running is not None
    assert running in [row.path for row in tree.tree_rows(now, tree.TreeExpansion())]
    closed = tree.TreeExpansion().with_expanded(running[:1], False)
    assert running not in [row.path for row in tree.tree_rows(now, closed)]


def test_a_failure_is_found_with_its_traceback() -> None:
    now = snapshot(events_with_failure())
    path = tree.failed_path(now)
    assert path is not None
    assert now.state.steps[str(path[3])].status == "failed"
    assert tree.group_status([now.state.steps[str(path[3])]], now.status) == "failed"
    lines = detail.step_lines(str(path[3]), now)
    assert "error: RuntimeError: no memory" in lines
    assert '  File "loop.py", line 7, in train' in lines


def test_a_step_of_a_dead_run_does_not_run() -> None:
    now = moment(300)
    name = str((tree.running_path(now) or ("",) * 4)[3])
    assert tree.group_status([now.state.steps[name]], "running") == "running"
    assert tree.group_status([now.state.steps[name]], "paused") == "paused"
    assert tree.group_status([now.state.steps[name]], "crashed") == "interrupted"


def test_the_pareto_front_holds_the_tickets_that_none_dominates() -> None:
    now = moment(len(recorded_events()))
    tickets = [s for (_, contestant, _), s in now.standings.items() if contestant == "ticket"]
    front = pareto.pareto_front(tickets)
    assert front
    for ticket in tickets:
        dominated = any(
            other.score.mean >= ticket.score.mean
            and other.params <= ticket.params
            and (other.score.mean, -other.params) != (ticket.score.mean, -ticket.params)
            for other in tickets
        )
        assert (ticket in front) == (not dominated)


def test_the_best_figure_of_a_column_is_marked() -> None:
    rows = [
        row for row in compare.compare_rows(moment(len(recorded_events())), "round 2") if row.contestant == "ticket"
    ]
    best = min(row.standing.params for row in rows)
    assert [("params" in row.best) for row in rows] == [row.standing.params == best for row in rows]


@functools.cache
def with_extra_metrics() -> Snapshot:
    """The end of the recording, with energy and latency of the tickets measured as well."""
    last, now = recorded_events()[-1], moment(len(recorded_events()))
    energy, latency = {"energy": 2500.0, "energy.watts": 65.0}, {"latency": 0.00125, "latency.batch": 0.5}
    measures = [
        Measure(
            arm=key[0], contestant=key[1], level=key[2], seed=key[3], step="s", metric=metric, figures=figures, how=how
        )
        for key in now.state.metrics
        if key[1] == "ticket"
        for metric, figures, how in (("energy", energy, "estimated"), ("latency", latency, "measured"))
    ]
    return snapshot(
        [*recorded_events(), *(EventRecord(last.seq + n + 1, last.t, event) for n, event in enumerate(measures))]
    )


@given(st.integers(30, 200))
def test_extra_metrics_are_in_the_comparison_if_there_is_room(width: int) -> None:
    rows = compare.compare_rows(with_extra_metrics(), compare.BEST)
    heading = compare.heading(width, rows)
    lines = [compare.compare_line(row, width, LIGHT) for row in rows]
    assert {len(heading), *(line.cell_len for line in lines)} == {width}
    assert ("latency" in heading, "energy" in heading) == (width >= 118, width >= 130)
    for row, line in zip(rows, lines, strict=True):
        ticket = row.contestant == "ticket"
        assert ("1.25 ms" in line.plain, "~2.50 kJ" in line.plain) == (ticket and width >= 118, ticket and width >= 130)


def test_further_metrics_of_the_task_are_in_the_comparison() -> None:
    """With the format of the task's metric, after what was measured; other arms have an empty cell."""
    now = with_extra_metrics()
    arm = now.state.arms[0].id
    task = attrs.evolve(
        CLASSIFY, metrics=(*CLASSIFY.metrics, MetricInfo(name="f1", higher_is_better=True, unit="share"))
    )
    metrics = {key: attrs.evolve(m, figures={"f1": 0.25}) for key, m in now.state.metrics.items() if key[0] == arm}
    state = attrs.evolve(
        now.state, tasks={arm: task}, report=("latency", "f1"), metrics={**now.state.metrics, **metrics}
    )
    rows = compare.compare_rows(attrs.evolve(now, state=state), compare.BEST)
    assert {name for row in rows for name, _ in row.extra_metrics[-1:]} == {"f1"}
    assert {(row.arm == arm, dict(row.extra_metrics)["f1"]) for row in rows} == {
        (True, "25.00"),
        (False, ""),
    }


def test_layers_tell_what_is_left() -> None:
    now = moment(len(recorded_events()))
    options = layers.available_selections(now, "colt")
    levels = [option.level for option in options if option.contestant in ("ticket", "dense") and option.seed == 1]
    assert levels == [0, 1, 2]
    last = layers.nearest_selection(options, layers.LayerSelection("colt", "ticket", 99, 1))
    assert (last.level, last.contestant) == (2, "ticket")
    rows = layers.layer_rows(now, last)
    metric = now.state.metrics["colt", "ticket", 2, 1]
    left, all_of_them = sum(row.weights_left for row in rows), sum(row.weights for row in rows)
    assert left / all_of_them == pytest.approx(1 - (metric.sparsity or 0), abs=0.03)
    assert layers.step_round(options, last, -1).level == 1
    assert layers.step_round(options, last, 1).level == 2


def test_the_plan_marks_the_statement_that_runs() -> None:
    lines = {line.number: line for line in plan.plan_lines(PLAN, moment(300))}
    marked = {number for number, line in lines.items() if line.arm_indices}
    assert marked
    assert all("arm" in lines[n].text or "prune" in lines[n].text or "rewind" in lines[n].text for n in marked)
    early = plan.plan_lines(PLAN, moment(12))
    assert all(line.text.startswith(("train", "model", "arm")) for line in early if line.arm_indices)


#: Statements of a block, each with the operation and the label of a step that it makes.
_MADE = {
    "prune weights to 80% from 1ep to 3ep every 5it": ("train", "train, prune gradually"),
    "retrain scratch; evolve weights 30%": ("train", "train"),
    "rewind mask of next seed align=dense": ("align", "align"),
    'rewind mask of run "lth"': ("mask", "mask of a run"),
    "rewind signs of next seed": ("mix", "rewind signs"),
    "grow weights all": ("grow", "grow"),
    "perturb 5%": ("perturb", "perturb"),
}


@pytest.mark.parametrize("statement", _MADE)
def test_the_plan_marks_statements_of_sparse_training_and_of_other_seeds(statement: str) -> None:
    now = moment(300)
    name, info = next((name, step.info) for name, step in now.state.steps.items() if step.status == "running")
    arm = next(arm.name for arm in now.state.arms if arm.id == info.arms[0])
    operation, label = _MADE[statement]
    running = attrs.evolve(now.state.steps[name], info=attrs.evolve(info, operation=operation, label=label))
    steps = {name: running}
    text = f"train 3ep\narm {arm} {{\n  # rewind, grow: a comment\n  model small-cnn\n  {statement}\n}}\n"
    lines = plan.plan_lines(text, attrs.evolve(now, state=attrs.evolve(now.state, steps=steps)))
    assert [line.text.strip() for line in lines if line.arm_indices] == [statement]


def test_the_title_counts_time_from_the_run_not_from_the_last_event() -> None:
    now = moment(300)
    line = status.title_line(now, 120, DARK).plain
    assert "colt-20260102-030405-00ff" in line
    line = status.progress_line(now, 120, DARK).plain
    assert f"{now.state.finished_steps}/{len(now.state.steps)} steps" in line
    assert " left" in line


@given(st.lists(st.builds(Resource, cpu=st.none() | st.floats(0, 100), ram=st.none() | st.integers(0, 10**13))), WIDTHS)
def test_any_load_fits_its_line(load: list[Resource], width: int) -> None:
    assert status.load_line(load, width, DARK).cell_len <= width


def test_a_gpu_is_told_of() -> None:
    gpu = {"percent": 87.0, "memory": 5e9, "total": 80e9, "watts": 300.4}
    line = status.load_line([Resource(cpu=50.0, ram=10**9, gpu=gpu)], 120, DARK).plain
    assert "87%" in line
    assert "5.0 GB of 80.0 GB" in line
    assert "300 W" in line


def test_no_time_passes_for_steps_of_a_run_that_ended() -> None:
    """The elapsed time of a step that was running when the run was stopped does not grow any more."""
    records = events_until_midway()
    last = records[-1]
    stopped = EventRecord(last.seq + 1, last.t + 1.0, RunEnd(status="stopped", seconds=9.0, exit=130, message=""))

    running = tree.running_path(snapshot(records))
    assert running is not None
    folding = tree.TreeExpansion(frozenset(running[:depth] for depth in range(1, len(running))))
    for story in ([*records, stopped], records):
        now = snapshot(story)
        later = attrs.evolve(now, now=now.now + 3600)
        before, after = ([row.note for row in tree.tree_rows(at, folding)] for at in (now, later))
        assert (before == after) is (stopped in story)


def test_results_that_are_worthless_raise_an_alarm() -> None:
    """In the title on every screen, in the log, and in full beside the plan."""
    records = [
        attrs.evolve(record, event=attrs.evolve(record.event, not_finite=("bn1.running_var",)))
        if isinstance(record.event, Metric)
        else record
        for record in recorded_events()
    ]
    feed = Feed(StubSource(list(records)))
    while feed.advance():
        pass
    now = SnapshotBuilder(feed, None, has_engine=False).snapshot(records[-1].t, "")
    (alarm,) = now.alarms
    assert "`bn1.running_var`" in alarm
    for width in (60, 80, 120):
        assert "⚠ no verdict, see 4" in status.title_line(now, width, DARK).plain
    rows = [log.as_log_row(row, now).text for row in log.log_rows(now)]
    assert any("WARNING: weights or statistics are not finite" in row for row in rows)
    assert "⚠" not in status.title_line(moment(len(recorded_events())), 120, DARK).plain


@pytest.mark.parametrize("metrics", [(RMSE,), (ERROR,), (PSNR,), (ACCURACY, RMSE), (MIOU, DEGREES)], ids=str)
def test_screens_speak_of_the_metrics_of_the_arms(tmp_path: Path, metrics: tuple[MetricInfo, ...]) -> None:
    records = list(read_events(write_run(tmp_path, metrics=metrics).events))
    for width in (40, 60, 80, 100, 140):
        for filter_text in ("", "imp"):
            now = attrs.evolve(snapshot(records), filter_text=filter_text)
            lines = everything(now, width)
            lines += [arms.heading(width, now.metrics), compare.heading(width, compare.compare_rows(now, "round 1"))]
            if ACCURACY not in metrics:
                assert not [line for line in lines if "accura" in line.replace("most accurate", "")]
    now = snapshot(records)
    shown = run_charts.metric_chart(now, 0, True, True, DARK, ())
    assert shown.title.startswith(f"{description(metrics[0])} / weights left")
    assert shown.y.percent == metrics[0].is_share
    # Of two metrics, a chart shows one, and the filter the other.
    assert len({curve.label.split(" (")[-1].rstrip(")") for curve in shown.curves}) == 2 // len(metrics)
    other = attrs.evolve(now, filter_text="imp")
    assert run_charts.metric_chart(other, 0, True, False, DARK, ()).title.startswith(description(metrics[-1]))
    assert ("filter for arms" in shown.title) == (len(metrics) == 2)
    rows = [row for row in compare.compare_rows(now, "round 1") if row.contestant == "ticket"]
    if len(metrics) == 2:  # the best of its metric, and not worse than the other
        assert all("score" in row.best for row in rows)
    elif rows[0].standing is not None and rows[1].standing is not None:
        best = max(rows, key=lambda row: row.standing.goodness)
        assert "score" in best.best


def test_a_front_does_not_compare_metrics() -> None:
    state = two_tasks()
    standings = [s for key, s in compute_standings(state).items() if key[1] == "ticket"]
    front = pareto.pareto_front(standings)
    for metric in (ACCURACY, RMSE):
        alike = [s for s in standings if s.metric == metric]
        assert [s for s in front if s.metric == metric] == pareto.pareto_front(alike) != []
