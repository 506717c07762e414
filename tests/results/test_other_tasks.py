"""Whatever a task is judged by: verdicts follow the direction of the metric, and every reader speaks of it."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import attrs
import pytest
from finished_runs import finished_run
from hypothesis import given, settings
from hypothesis import strategies as st
from task_runs import DEGREES, ERROR, LOSS, MIOU, PRIMARY, PSNR, R2, RMSE, task_run, two_tasks, verdicts

from tickdsl.records.events import CLASSIFY, MetricInfo, PlanResolved, TaskInfo
from tickdsl.results import RunState, StateBuilder
from tickdsl.results.answers import answers
from tickdsl.results.arm_differences import arm_differences
from tickdsl.results.caveats import alarms, caveats
from tickdsl.results.conclusions import conclusions
from tickdsl.results.estimates import Estimate
from tickdsl.results.export import results_csv, results_dict
from tickdsl.results.extra_metrics import columns_with_values, format_cell, measured_values
from tickdsl.results.needed_seeds import needed_seeds
from tickdsl.results.run_differences import run_differences
from tickdsl.results.scores import (
    ACCURACY,
    axis_label,
    difference,
    margins,
    measured,
    number,
    score,
    score_of,
    score_with_unit,
)
from tickdsl.results.standings import LOSING, WINNING, compute_standings
from tickdsl.results.table import results_text
from tickdsl.results.top_arms import top_arms

SCORES = st.lists(st.floats(0.5, 0.99).map(lambda x: round(x, 3)), min_size=15, max_size=15)


def with_accuracies(values: list[float]) -> RunState:
    """A run of one arm, four rounds and three seeds with these accuracies, without the images behind them."""
    state = finished_run(controls=())
    arm = state.arms[0]
    keys = [key for key in state.metrics if key[0] == arm.id]
    metrics = {
        key: attrs.evolve(state.metrics[key], accuracy=value, correct=None, chance=None)
        for key, value in zip(keys, values, strict=True)
    }
    return attrs.evolve(state, arms=(arm,), metrics=metrics)


def mirrored(state: RunState) -> RunState:
    """The same run with every score negated and the direction turned around."""

    def turned(metric: MetricInfo) -> MetricInfo:
        return attrs.evolve(metric, higher_is_better=not metric.higher_is_better)

    tasks = {arm: attrs.evolve(task, metrics=tuple(map(turned, task.metrics))) for arm, task in state.tasks.items()}
    metrics = {
        key: attrs.evolve(m, score=-m.score, figures={name: -value for name, value in m.figures.items()})
        for key, m in state.metrics.items()
        if m.score is not None
    }
    return attrs.evolve(state, tasks=tasks, metrics=metrics)


@settings(deadline=None, max_examples=60)
@given(SCORES, st.sampled_from([RMSE, R2, MIOU, DEGREES, PSNR]), st.sampled_from([0.0, 0.005, 0.02]))
def test_negating_a_metric_and_its_direction_changes_no_verdict(
    values: list[float], metric: MetricInfo, within: float
) -> None:
    state = attrs.evolve(task_run(metric, state=with_accuracies(values)), within=within)
    other = mirrored(state)
    assert verdicts(other) == verdicts(state)
    for key, standing in compute_standings(state).items():
        turned = compute_standings(other)[key]
        assert (turned.p_winning, turned.p_losing) == (standing.p_winning, standing.p_losing)
        if standing.to_dense is not None and turned.to_dense is not None:
            assert turned.to_dense.mean == -standing.to_dense.mean
            assert turned.to_dense.half_width == standing.to_dense.half_width


@settings(deadline=None, max_examples=40)
@given(SCORES, st.sampled_from([RMSE, R2]), st.sampled_from([0.0, 0.01]), st.sampled_from([2.0**-20, 0.5, 2.0**30]))
def test_the_unit_of_a_plain_number_changes_no_verdict(
    values: list[float], metric: MetricInfo, within: float, unit: float
) -> None:
    """`within` is a share of dense's score, so metres and millimetres are judged alike."""
    state = attrs.evolve(with_accuracies(values), within=within)
    assert verdicts(task_run(metric, scale=unit, state=state)) == verdicts(task_run(metric, state=state))


@settings(deadline=None, max_examples=40)
@given(SCORES)
def test_the_error_of_a_classifier_is_judged_as_its_accuracy(values: list[float]) -> None:
    """Up to rounding: 1 - a has other last bits than a, and so have its p values."""
    accuracies = attrs.evolve(with_accuracies(values), within=0.01)
    errors = compute_standings(task_run(ERROR, state=accuracies))
    for key, standing in compute_standings(accuracies).items():
        if standing.p_winning is not None:
            assert errors[key].p_winning == pytest.approx(standing.p_winning, abs=1e-6)
            assert errors[key].p_losing == pytest.approx(standing.p_losing, abs=1e-6)
            assert standing.to_dense is not None and errors[key].to_dense is not None
            assert errors[key].to_dense.mean == pytest.approx(-standing.to_dense.mean, abs=1e-12)


def test_what_is_lower_wins_where_lower_is_better() -> None:
    for metric in (RMSE, ERROR, DEGREES):
        better = task_run(metric)
        lower = {
            key: attrs.evolve(m, score=m.score * (0.2 if key[1] == "ticket" else 1.0), figures={})
            for key, m in better.metrics.items()
            if m.score is not None
        }
        standings = compute_standings(attrs.evolve(better, metrics=lower))
        tickets = [s for key, s in standings.items() if key[1] == "ticket"]
        assert {s.verdict for s in tickets} == {WINNING}
        assert all(s.to_dense is not None and s.to_dense.mean < 0 for s in tickets)
        higher = {key: attrs.evolve(m, score=1.0 - m.score) for key, m in lower.items() if m.score is not None}
        turned = compute_standings(attrs.evolve(better, metrics=higher))
        assert {s.verdict for key, s in turned.items() if key[1] == "ticket"} == {LOSING}


def test_equal_differences_are_no_certainty() -> None:
    """A metric without a resolution has no floor for the standard error: equal differences tell nothing."""
    state = task_run(RMSE)
    same = {
        key: attrs.evolve(m, score=0.5 - 0.1 * (key[1] == "ticket"), figures={}) for key, m in state.metrics.items()
    }
    tickets = [s for key, s in compute_standings(attrs.evolve(state, metrics=same)).items() if key[1] == "ticket"]
    assert {s.verdict for s in tickets} == {"undecided"}
    assert all(s.to_dense is not None and s.to_dense.mean == pytest.approx(-0.1) for s in tickets)


@pytest.mark.parametrize(
    ("metric", "dense", "loss", "allowed"),
    [(RMSE, 50.0, 0.5, 0.02), (R2, 50.0, 0.5, 0.02), (MIOU, 0.5, 0.015, 0.02), (ERROR, 0.5, 0.015, 0.5)],
)
def test_within_is_a_share_of_the_dense_score_unless_the_metric_is_a_share(
    metric: MetricInfo, dense: float, loss: float, allowed: float
) -> None:
    """0.5 of 50 is 1% of dense, which 2% allow; 0.015 is 1.5 points, which 2 points allow."""
    state, worse = task_run(metric), {}
    for key, m in state.metrics.items():
        lost = (loss + 1e-4 * loss * key[3] * key[2]) * (key[1] == "ticket")
        score = dense - lost if metric.higher_is_better else dense + lost
        worse[key] = attrs.evolve(m, score=score, figures={})
    strict, lenient, narrow = (
        compute_standings(attrs.evolve(state, metrics=worse, within=within))[state.arms[0].id, "ticket", 2]
        for within in (0.0, allowed, 0.0095)
    )
    assert (strict.verdict, lenient.verdict) == (LOSING if metric is not ERROR else strict.verdict, WINNING)
    assert narrow.verdict != WINNING


def test_margins_name_the_side_and_the_metric() -> None:
    assert margins([RMSE], 0.01) == "at most 1% above dense"
    assert margins([R2], 0.01) == "at most 1% below dense"
    assert margins([ERROR], 0.005) == "at most 0.5 points above dense"
    assert margins([ACCURACY], 0.01) == "at most 1 point below dense"
    assert margins([ACCURACY, RMSE], 0.01) == "at most 1 point below dense (accuracy) or at most 1% above dense (RMSE)"
    assert margins([RMSE], 0.0) == "no higher than dense"


@pytest.mark.parametrize("metric", PRIMARY, ids=lambda metric: metric.name)
def test_no_reader_calls_it_accuracy(metric: MetricInfo) -> None:
    state = task_run(metric)
    lines = [results_text(state), *alarms(state), *caveats(state), *conclusions(state).values(), *answers(state)]
    lines += [str(needed) for needed in needed_seeds(state)]
    assert not [line for line in lines if "accura" in line]
    assert ("points" in " ".join(lines)) == metric.is_share


def test_the_table_of_a_regression() -> None:
    text = " ".join(results_text(task_run(RMSE, scale=2.0)).split())
    assert "RMSE ↓" in text and "RMSE: lower is better" in text
    assert "winning: at most 0.5% above dense" in text
    assert "* best winning ticket" in text or "*" not in text
    assert re.search(r"0\.1\d{3} ± 0\.\d{4}", text)
    celsius = results_text(task_run(DEGREES, scale=2.0))
    assert "MAE ↓" in celsius and "°C" in celsius


def test_a_dense_network_at_chance() -> None:
    state = task_run(RMSE)
    for chance, found in ((10.0, False), (1e-6, True)):
        metrics = {key: attrs.evolve(m, chance=chance) for key, m in state.metrics.items()}
        judged = attrs.evolve(state, metrics=metrics)
        warnings = [alarm for alarm in alarms(judged) if "at chance" in alarm]
        assert bool(warnings) is found
        assert all("RMSE" in warning and "frequent class" not in warning for warning in warnings)
    # Of an accuracy-like share, 1.0 by chance means one class; an RMSE of 1.0 by chance means nothing.
    ones = {key: attrs.evolve(m, chance=1.0) for key, m in state.metrics.items()}
    assert not alarms(attrs.evolve(state, metrics=ones))


# -- the metric that `compare metric=` chooses


def resolved(state: RunState, metric: str, task: TaskInfo) -> RunState:
    """The state with the plan of another metric, as events tell it."""
    builder = StateBuilder()
    plan = PlanResolved(
        arms=state.arms, contestants=state.contestants, seeds=state.seeds, steps=(), measurements=(),
        tasks={arm.id: task for arm in state.arms}, metric=metric,
    )  # fmt: skip
    builder._plan_resolved(plan, 0.0)
    return attrs.evolve(state, tasks=builder.state.tasks, compared=builder.state.compared)


def test_another_metric_of_the_task_is_compared() -> None:
    task = TaskInfo(name="made-up", metrics=(RMSE, R2, LOSS))
    state = task_run(RMSE)
    with_r2 = {
        key: attrs.evolve(m, figures={**m.figures, "r2": 1.0 - m.score})
        for key, m in state.metrics.items()
        if m.score is not None
    }
    state = attrs.evolve(state, metrics=with_r2)
    by_r2 = resolved(state, "r2", task)
    assert by_r2.metric_of(state.arms[0].id) == R2 and by_r2.primary_of(state.arms[0].id) == RMSE
    assert "R² ↑" in results_text(by_r2) and "RMSE" not in results_text(by_r2)
    for key, standing in compute_standings(by_r2).items():
        assert standing.score is not None
        values = [1.0 - m.score for k, m in state.metrics.items() if k[:3] == key and m.score is not None]
        assert standing.score.mean == pytest.approx(sum(values) / len(values))
    assert resolved(state, "", task).metric_of(state.arms[0].id) == RMSE
    assert resolved(state, "nonsense", task).metric_of(state.arms[0].id) == RMSE


def test_the_loss_of_a_classifier_is_compared() -> None:
    state = finished_run()
    losses = {key: attrs.evolve(m, loss=1.0 - (m.accuracy or 0.0)) for key, m in state.metrics.items()}
    nats = attrs.evolve(LOSS, unit="nats")
    by_loss = resolved(attrs.evolve(state, metrics=losses), "loss", TaskInfo(name="classify", metrics=(ACCURACY, nats)))
    text = results_text(by_loss)
    assert "loss ↓" in text and "nats" in text and "accuracy" not in text
    # What it is judged by does not change what else is known of it.
    level = results_dict(by_loss)["arms"][0]["levels"][0]["contestants"]["dense"]
    assert level["accuracy"] == results_dict(state)["arms"][0]["levels"][0]["contestants"]["dense"]["accuracy"]


# -- arms of several tasks


def test_arms_of_different_tasks_are_never_compared() -> None:
    state = two_tasks()
    assert not arm_differences(state)
    assert arm_differences(finished_run()) and arm_differences(task_run(RMSE))
    text = " ".join(results_text(state).split())
    assert "accuracy" in text and "RMSE ↓" in text
    assert "at most 0.5 points below dense (accuracy) or at most 0.5% above dense (RMSE)" in text
    assert {metric["name"] for metric in (arm["metric"] for arm in results_dict(state)["arms"])} == {"accuracy", "rmse"}
    rows = list(csv.DictReader(io.StringIO(results_csv(state))))
    assert {(row["metric"], bool(row["accuracy"]), bool(row["score"])) for row in rows} == {
        ("accuracy", True, True),
        ("rmse", False, True),
    }
    assert top_arms(state, compute_standings(state), 1) in ([state.arms[0].id], [state.arms[1].id])


def test_runs_with_other_metrics_are_not_compared() -> None:
    state = finished_run()
    data = {arm.id: "same" for arm in state.arms}
    first, second = attrs.evolve(state, data=data), attrs.evolve(task_run(RMSE), data=data)
    found = run_differences({"a": first, "b": second})
    assert not found.differences
    assert "compared by different metrics" in found.notes[0]
    assert run_differences({"a": second, "b": second}).differences


# -- earlier versions


def test_events_without_tasks_are_those_of_classifiers() -> None:
    state = finished_run()
    assert not state.tasks
    assert {state.metric_of(arm.id) for arm in state.arms} == {ACCURACY}
    explicit = attrs.evolve(
        state, tasks={arm.id: TaskInfo(name="classify", metrics=(ACCURACY, LOSS)) for arm in state.arms}
    )
    assert verdicts(explicit) == verdicts(state)
    assert results_text(explicit) == results_text(state)


def test_scores_without_a_direction_get_no_verdict() -> None:
    """Versions before this one recorded the score of a regression, but not whether more of it is better."""
    state = attrs.evolve(task_run(RMSE), tasks={})
    assert any("run the plan again" in alarm and "rmse" in alarm for alarm in alarms(state))
    assert all("does not tell by what its task is judged" in sentence for sentence in conclusions(state).values())
    assert not any("fewer than" in note for note in caveats(state))
    assert {standing.verdict for standing in compute_standings(state).values()} == {None}


def test_results_validate_against_the_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((Path(__file__).parents[2] / "tickdsl" / "results" / "results.schema.json").read_text())
    for state in (finished_run(), two_tasks(), *map(task_run, PRIMARY)):
        jsonschema.validate(json.loads(json.dumps(results_dict(state))), schema)


# -- texts


def test_values_have_sensible_digits() -> None:
    assert score(RMSE, Estimate(3, 0.051234, 0.00041)) == "0.05123 ± 0.00041"
    assert score(RMSE, Estimate(1, 1234.5678, None)) == "1235"
    assert score(RMSE, Estimate(3, 3.2e-7, 1e-8)) == "3.200e−07 ± 1.0e−08"
    assert score(R2, Estimate(1, -0.25, None)) == "−0.2500"
    assert score_with_unit(DEGREES, Estimate(3, 1.25, 0.5)) == "1.250 ± 0.500 °C"
    assert score_with_unit(MIOU, Estimate(3, 0.61234, 0.012)) == "61.23 ± 1.20%"
    assert difference(RMSE, Estimate(3, 0.00123, 0.0004), scale=0.0512) == "+0.00123 ± 0.00040"
    assert difference(RMSE, Estimate(3, -0.00123, 0.0004)) == "−0.00123 ± 0.00040"
    assert difference(RMSE, Estimate(3, 0.0, 0.0), scale=0.0) == "+0.000 ± 0.000"
    assert number(ERROR, 0.05) == "5.00%" and number(PSNR, 31.234) == "31.23 dB"


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (ACCURACY, "accuracy (%)"),
        (RMSE, "RMSE (lower is better)"),
        (MIOU, "mIoU (%, higher is better)"),
        (DEGREES, "MAE (°C, lower is better)"),
    ],
)
def test_axes_name_metric_unit_and_direction(metric: MetricInfo, expected: str) -> None:
    assert axis_label(metric) == expected


def test_lines_show_the_score() -> None:
    event = next(iter(task_run(RMSE, scale=1.0).metrics.values()))
    assert measured(attrs.evolve(event, score=0.05), RMSE) == "RMSE 0.05000"
    classified = next(iter(finished_run().metrics.values()))
    assert measured(attrs.evolve(classified, accuracy=0.9312), ACCURACY) == "accuracy 93.12%"
    assert score_of(classified, RMSE) is None


@pytest.mark.parametrize("doubtful", [False, True])
def test_texts_on_other_inputs_speak_of_no_images(doubtful: bool) -> None:
    """Classified texts have the metrics of classified images, and are called samples."""
    images = attrs.evolve(finished_run(), stops=("accuracy < 50%",), status="ok")
    if doubtful:
        images = attrs.evolve(images, metrics={k: attrs.evolve(m, chance=1.0) for k, m in images.metrics.items()})
    texts = attrs.evolve(images, tasks={arm.id: attrs.evolve(CLASSIFY, sample="sample") for arm in images.arms})

    def told(state: RunState) -> str:
        return "\n".join([results_text(state, 400), *caveats(state), *alarms(state), *conclusions(state).values()])

    assert "image" not in told(texts)
    assert re.sub(r"\bsample", "image", told(texts)) == told(images) != told(texts)


def test_arms_on_images_and_on_texts_share_a_name() -> None:
    state = finished_run()
    first, second = (arm.id for arm in state.arms)
    state = attrs.evolve(state, tasks={second: attrs.evolve(CLASSIFY, sample="sample")})
    assert [state.sample_of(), state.sample_of(first), state.sample_of(second)] == ["sample", "image", "sample"]


def test_further_metrics_of_the_task_have_columns_if_the_report_lists_them() -> None:
    """A share is a percentage, a number has its unit; the compared metric and the loss have columns already."""
    f1 = MetricInfo(name="f1", higher_is_better=True, unit="share")
    state = task_run(MIOU)
    task = TaskInfo(name="made-up", metrics=(MIOU, f1, PSNR, LOSS))
    metrics = {
        key: attrs.evolve(m, figures={**m.figures, "f1": 0.125, "psnr": 31.5 + key[3]})
        for key, m in state.metrics.items()
    }
    state = attrs.evolve(state, metrics=metrics, tasks={arm.id: task for arm in state.arms})
    assert not measured_values(state)
    state = attrs.evolve(state, report=("miou", "psnr", "f1", "loss", "sparsity"))
    values = measured_values(state)
    assert values.keys() == {key[:3] for key in metrics}
    assert {name for by_name in values.values() for name in by_name} == {"f1", "psnr"}
    columns = {column.figure_name: column for column in columns_with_values(values, task)}
    first = next(iter(values.values()))
    assert [format_cell(columns[name], first) for name in ("f1", "psnr")] == ["12.50", "33.50"]
    assert columns["psnr"].heading.startswith("PSNR, dB")
    assert results_text(state, 300).count("PSNR") == len(state.arms)
