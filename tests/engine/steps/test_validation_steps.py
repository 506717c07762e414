"""Steps on data with a validation set: epochs are measured on it, the network is tested at the end."""

from __future__ import annotations

from pathlib import Path

import pytest
from step_runner import StepRunner, equal_states, step_runner

from tickdsl.engine.scheduler.arm_ends import metric_value
from tickdsl.engine.scheduler.event_builders import metric_event, plan_resolved_event
from tickdsl.engine.steps.tested_images import evaluate_on
from tickdsl.engine.steps.trainings import path_images
from tickdsl.metrics.training_metrics import training_figures
from tickdsl.plan.model import MeasurementOptions

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


def test_the_test_at_the_end_is_that_of_an_evaluation(runner: StepRunner) -> None:
    trained = runner.metrics(runner.measured_step("dense", 0))
    network = runner.weights(runner.measured_step("dense", 0))
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


EARLY = "seeds 1\nprune weights 30%; rewind weights to 1ep\ncompare dense\nreport early-stop every=4it\n"


def test_early_stop_within_epochs_is_the_iteration_of_the_lowest_validation_loss(tmp_path: Path) -> None:
    runner = step_runner(tmp_path, EARLY, head=HEAD)
    key = runner.measured_step("dense", 0)
    metrics = runner.metrics(key)
    curve = metrics["loss_curve"]
    assert [row[0] for row in curve] == [4, 8, 12, 15]  # 142 images are 5 batches of 32
    loss, step, score = min((row[1], row[0], row[3]) for row in curve)
    result = training_figures("early-stop", runner.context.store.get(key).data, MeasurementOptions())
    assert result is not None
    assert result[0] == pytest.approx(
        {"early-stop": step / 5, "early-stop.iteration": step, "early-stop.loss": loss, "early-stop.accuracy": score}
    )


def test_early_stop_measures_without_changing_a_weight_and_shares_rewinding_points(tmp_path: Path) -> None:
    measured = step_runner(tmp_path / "measured", EARLY, head=HEAD)
    plain = step_runner(tmp_path / "plain", EARLY.replace(" every=4it", ""), head=HEAD)
    ends = [runner.levels("ticket")[0].ticket for runner in (measured, plain)]
    assert ends[0] != ends[1]
    assert equal_states(measured.weights(ends[0]), plain.weights(ends[1]))
    assert len(measured.study.graph) == len(plain.study.graph)
    figures = training_figures("early-stop", plain.context.store.get(ends[1]).data, MeasurementOptions())
    assert figures is not None and figures[0].keys() == {"early-stop", "early-stop.loss", "early-stop.validation"}


def test_a_training_with_patience_counts_what_it_took(tmp_path: Path) -> None:
    head = HEAD.replace("3ep lr=0.1", "12ep lr=0.8 patience=2ep")
    runner = step_runner(
        tmp_path, "seeds 1\nprune weights 30%; rewind lr\ncompare dense, early budget=total\n", head=head
    )
    key = runner.measured_step("dense", 0)
    metrics = runner.metrics(key)
    assert metrics["stopped_after"] == len(metrics["epochs"]) < 12
    assert metrics["images"] == metrics["stopped_after"] * 142
    assert path_images(key, runner.context) == metrics["images"]
