"""States of finished runs whose arms have other tasks: shares and plain numbers, of which more or less is better."""

from __future__ import annotations

import attrs
from finished_runs import finished_run

from tickdsl.records.events import MetricInfo, TaskInfo
from tickdsl.results import RunState
from tickdsl.results.standings import compute_standings

RMSE = MetricInfo(name="rmse", higher_is_better=False)
R2 = MetricInfo(name="r2", higher_is_better=True)
LOSS = MetricInfo(name="loss", higher_is_better=False)
MIOU = MetricInfo(name="miou", higher_is_better=True, unit="share")
ERROR = MetricInfo(name="error", higher_is_better=False, unit="share", per_sample=1.0)
DEGREES = MetricInfo(name="mae", higher_is_better=False, unit="°C")
PSNR = MetricInfo(name="psnr", higher_is_better=True, unit="dB")
#: A metric for each combination of shares or numbers, more or less is better.
PRIMARY = (RMSE, R2, MIOU, ERROR, DEGREES, PSNR)


def task_run(metric: MetricInfo, scale: float = 1.0, offset: float = 0.0, state: RunState | None = None) -> RunState:
    """The run of `finished_run` whose accuracies a become scores: offset + scale · a, or · (1 - a) if less is better.

    So verdicts on shares are those on the accuracies, except for the resolution of the test set.
    """
    state = state or finished_run()
    task = TaskInfo(name="made-up", metrics=(metric, *((LOSS,) if metric.name != "loss" else ())))
    metrics = {}
    for key, measured in state.metrics.items():
        assert measured.accuracy is not None
        value = offset + scale * (measured.accuracy if metric.higher_is_better else 1.0 - measured.accuracy)
        metrics[key] = attrs.evolve(
            measured, accuracy=None, chance=None, correct=None, score=value, metric=metric.name, best_score=value,
            figures={metric.name: value, "loss": measured.loss},
        )  # fmt: skip
    return attrs.evolve(state, metrics=metrics, tasks={arm.id: task for arm in state.arms})


def two_tasks() -> RunState:
    """A run whose first arm is classified, and whose second one is a regression."""
    state, other = finished_run(), task_run(RMSE, scale=0.5)
    second = state.arms[1].id
    metrics = {key: (other if key[0] == second else state).metrics[key] for key in state.metrics}
    return attrs.evolve(state, metrics=metrics, tasks={second: other.tasks[second]})


def verdicts(state: RunState) -> dict[tuple[str, str, int], tuple[str | None, ...]]:
    """The verdicts of all networks, and why there is none."""
    return {key: (s.verdict, s.no_verdict, s.lead_verdict) for key, s in compute_standings(state).items()}
