"""A task without an accuracy is not mistaken for one with seeds missing: it is said that there is no verdict."""

from __future__ import annotations

import attrs
from finished_runs import finished_run

from tickdsl.results import RunState
from tickdsl.results.caveats import alarms, caveats
from tickdsl.results.conclusions import conclusions
from tickdsl.results.formatting import score
from tickdsl.results.standings import compute_standings


def regression() -> RunState:
    state = finished_run()
    metrics = {
        key: attrs.evolve(metric, accuracy=None, score=0.05, metric="rmse", best_score=0.04)
        for key, metric in state.metrics.items()
    }
    return attrs.evolve(state, metrics=metrics)


def test_it_is_said_what_it_is_measured_by() -> None:
    state = regression()
    assert any("measured by rmse" in alarm and "no verdict" in alarm for alarm in alarms(state))
    assert all("verdicts compare accuracies" in sentence for sentence in conclusions(state).values())
    assert not any("fewer than" in note for note in caveats(state))
    assert {standing.verdict for standing in compute_standings(state).values()} == {None}


def test_lines_show_the_score() -> None:
    metric = next(iter(regression().metrics.values()))
    assert score(metric) == "rmse 0.05"
    assert score(attrs.evolve(metric, accuracy=0.9312, score=None, metric=None)) == "accuracy 93.12%"
