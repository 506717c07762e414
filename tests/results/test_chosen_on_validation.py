"""With validation data, the best ticket is the best one there, and readers say so; verdicts stay those of the test."""

from __future__ import annotations

import csv
import io
import json
from importlib.resources import files
from typing import Any

import attrs
import jsonschema
import pytest
from finished_runs import finished_run
from hypothesis import given, settings
from hypothesis import strategies as st

from tickdsl.records.events import StepProgress
from tickdsl.report.outcomes import outcomes
from tickdsl.results import RunState
from tickdsl.results.caveats import caveats
from tickdsl.results.epoch_values import epoch_values
from tickdsl.results.export import results_csv, results_dict
from tickdsl.results.standings import WINNING, compute_standings
from tickdsl.results.table import results_text
from tickdsl.tickets.choice import Wanted, choose

SCHEMA: dict[str, Any] = json.loads(files("tickdsl.results").joinpath("results.schema.json").read_text("utf-8"))


def with_validation(state: RunState, by_level: dict[int, float]) -> RunState:
    """The run with this validation accuracy at each level, for all arms and contestants."""
    metrics = {
        key: attrs.evolve(metric, validation={"accuracy": by_level[key[2]], "loss": 1.0})
        for key, metric in state.metrics.items()
    }
    return attrs.evolve(state, metrics=metrics)


def levels(state: RunState) -> list[int]:
    return sorted({key[2] for key in state.metrics})


@given(st.data())
@settings(max_examples=20, deadline=None)
def test_the_best_ticket_is_the_best_one_on_validation_data(data: st.DataObject) -> None:
    state = finished_run(controls=())
    shares = data.draw(st.permutations([0.5 + n / 100 for n in range(len(levels(state)))]))
    by_level = dict(zip(levels(state), shares, strict=True))
    chosen = with_validation(state, by_level)
    tickets = {level: value for level, value in by_level.items() if level}
    for outcome in outcomes(chosen, compute_standings(chosen)):
        assert outcome.best is not None
        assert by_level[outcome.best.level] == max(tickets.values())
    standings = compute_standings(chosen)
    assert {key: (s.score, s.verdict) for key, s in standings.items()} == {
        key: (s.score, s.verdict) for key, s in compute_standings(state).items()
    }
    found = choose(chosen, Wanted())
    winning = [s for s in standings.values() if s.contestant == "ticket" and s.verdict == WINNING]
    if not winning:
        assert by_level[found.level] == max(tickets.values())


def test_the_table_and_the_report_say_what_has_chosen() -> None:
    state = finished_run()
    validated = with_validation(state, dict.fromkeys(levels(state), 0.9))
    words = [" ".join(results_text(each).split()) for each in (state, validated)]
    assert "chosen on test images" in words[0] and "chosen on validation data" in words[1]


@pytest.mark.parametrize("missing", [False, True])
def test_early_stop_is_optimistic_only_if_test_images_choose(missing: bool) -> None:
    from tickdsl.records.events import Measure

    state = finished_run()
    key = next(iter(state.metrics))
    measure = Measure(
        arm=key[0],
        contestant=key[1],
        level=key[2],
        seed=key[3],
        step="a",
        metric="early-stop",
        figures={"early-stop": 2},
    )
    state = attrs.evolve(state, report=("early-stop",), measures={(key, "early-stop"): measure})
    validated = with_validation(state, dict.fromkeys(levels(state), 0.9))
    if missing:
        validated = attrs.evolve(validated, metrics={**validated.metrics, key: state.metrics[key]})
    assert any("early-stop is chosen by the test loss" in note for note in caveats(validated)) is missing


def test_validation_is_in_the_results_and_fits_their_schema() -> None:
    state = finished_run()
    assert "validation" not in json.dumps(results_dict(state))
    validated = with_validation(state, {level: 0.5 + level / 100 for level in levels(state)})
    results = results_dict(validated)
    jsonschema.validate(results, SCHEMA)
    level = results["arms"][0]["levels"][1]["contestants"]["ticket"]
    assert level["validation"]["mean"] == pytest.approx(0.51)
    assert {seed["validation"]["accuracy"] for seed in level["seeds"]} == {0.51}


def test_results_csv_has_the_figures_on_validation_data() -> None:
    state = finished_run()
    assert "validation" not in results_csv(state)
    validated = with_validation(state, {level: 0.5 + level / 100 for level in levels(state)})
    rows = list(csv.DictReader(io.StringIO(results_csv(validated))))
    assert {float(row["validation.accuracy"]) for row in rows if row["level"] == "1"} == {0.51}
    assert {row["validation.loss"] for row in rows} == {"1.0"} and {row["best_validation"] for row in rows} == {""}
    without = list(csv.DictReader(io.StringIO(results_csv(state))))
    kept = [name for name in rows[0] if "validation" not in name]
    assert [{name: row[name] for name in kept} for row in rows] == without


def test_scores_within_a_training_are_called_what_they_are_of() -> None:
    progress = StepProgress(step="s", epoch=1.0, epochs=2.0, loss=0.3, accuracy=0.9, lr=0.1)
    held_out = attrs.evolve(progress, measured_on="validation")
    assert epoch_values(progress) == {"train_loss": 0.3, "accuracy": 0.9, "learning_rate": 0.1}
    assert epoch_values(held_out) == {"train_loss": 0.3, "validation_accuracy": 0.9, "learning_rate": 0.1}


def test_seeds_of_which_some_lack_validation_choose_by_the_test() -> None:
    state = finished_run(controls=())
    validated = with_validation(state, dict.fromkeys(levels(state), 0.9))
    key = next(key for key in state.metrics if key[1] == "ticket")
    mixed = attrs.evolve(validated, metrics={**validated.metrics, key: state.metrics[key]})
    standing = compute_standings(mixed)[key[:3]]
    assert standing.validation is None and standing.score is not None
    assert standing.goodness == standing.score.mean
