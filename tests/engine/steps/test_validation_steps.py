"""Steps on data with a validation set: epochs are measured on it, the network is tested at the end."""

from __future__ import annotations

from pathlib import Path

import pytest
from step_runner import StepRunner, equal_states, step_runner

from tickdsl.engine.scheduler.arm_ends import metric_value
from tickdsl.engine.scheduler.event_builders import metric_event, plan_resolved_event

HEAD = "model small-cnn width=0.5\ndata synthetic size=8 train=192 test=64 validation=25%\ntrain 3ep lr=0.1 batch=32\n"
BODY = "seeds 1\nprune weights 30%; rewind weights to init\nstop when accuracy < 1%\ncompare dense\nreport pruned\n"


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> StepRunner:
    return step_runner(tmp_path_factory.mktemp("validation"), BODY, head=HEAD)


def test_a_training_is_measured_on_validation_and_tested_at_the_end(runner: StepRunner) -> None:
    metrics = runner.metrics(runner.measured_step("dense", 0))
    scores = [row[3] for row in metrics["epochs"]]
    assert metrics["validation"]["accuracy"] == scores[-1]
    assert metrics["best_validation"] == max(scores)
    assert metrics["best_epoch"] == 1 + scores.index(max(scores))
    assert "best_accuracy" not in metrics
    assert metrics["test_images"] == 64
    assert (metrics["accuracy"] * 64).is_integer()
    assert all(abs(score * 50 - round(score * 50)) < 1e-6 for score in scores)  # five of each class
    assert metrics["images"] == 3 * 142


def test_the_test_at_the_end_is_that_of_an_evaluation(runner: StepRunner, tmp_path: Path) -> None:
    trained = runner.metrics(runner.measured_step("dense", 0))
    network = runner.weights(runner.measured_step("dense", 0))
    from tickdsl.engine.steps.tested_images import evaluate_on

    step = runner.study.step(runner.measured_step("dense", 0))
    dense = runner.context.dense_network(step)
    module = runner.context.module(dense, runner.context.structure(None, dense.graph), network)
    test, validation = evaluate_on(module, runner.context.dataset(step.args["data"], 1), runner.context.device, None)
    assert validation is not None
    assert (test.accuracy, validation.accuracy) == (trained["accuracy"], trained["validation"]["accuracy"])


def test_conditions_look_at_validation_data(runner: StepRunner) -> None:
    (level,) = runner.levels("ticket")
    metrics = runner.metrics(level.ticket)
    assert metric_value(metrics, "accuracy") == metrics["validation"]["accuracy"]
    assert metric_value(metrics, "loss") == metrics["validation"]["loss"]
    assert metric_value(metrics, "sparsity") == metrics["sparsity"]
    assert plan_resolved_event(runner.study, lambda key: False).stops == ()


def test_the_event_of_a_measurement_has_the_validation_figures(runner: StepRunner) -> None:
    measurement = next(m for m in runner.study.measurements if m.contestant == "ticket" and not m.report_metric)
    event = metric_event(measurement, runner.metrics(measurement.step), "step")
    assert event.accuracy is not None and event.best_accuracy is None
    assert event.validation["accuracy"] == runner.metrics(measurement.step)["validation"]["accuracy"]


def test_a_network_straight_after_a_prune_is_measured_on_both(runner: StepRunner) -> None:
    (measurement,) = (m for m in runner.study.measurements if m.report_metric == "pruned")
    figures = runner.metrics(measurement.step)["figures"]
    assert figures.keys() == {"pruned", "pruned.loss", "pruned.validation"}


def test_progress_says_what_it_was_measured_on(tmp_path: Path) -> None:
    runner = step_runner(tmp_path, BODY, head=HEAD)
    reports: list[dict[str, object]] = []
    runner.context.hooks.progress = lambda key, report: reports.append(report)
    runner.run_step(runner.measured_step("dense", 0))
    assert len(reports) == 3
    assert {report["measured_on"] for report in reports} == {"validation"}


def test_the_data_of_all_seeds_are_divided_alike_and_plans_without_it_keep_their_steps(tmp_path: Path) -> None:
    plain = step_runner(tmp_path / "plain", BODY, head=HEAD.replace(" validation=25%", ""))
    divided = step_runner(tmp_path / "divided", BODY, head=HEAD)
    assert not {*plain.study.graph} & {*divided.study.graph}
    key = plain.measured_step("dense", 0)
    assert "validation" not in plain.metrics(key) and "best_accuracy" in plain.metrics(key)
    assert not equal_states(plain.weights(key), divided.weights(divided.measured_step("dense", 0)))
