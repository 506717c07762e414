"""Writes results.json and results.csv, the machine-readable results. docs/reference/results.md describes both."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

import attrs

from tickdsl.records.events import ArmInfo, MetricInfo
from tickdsl.records.files import write_atomically
from tickdsl.records.paths import RunPaths
from tickdsl.results.answers import answer
from tickdsl.results.arm_differences import ArmDifference, arm_differences
from tickdsl.results.budgets import Budget, budgets, seed_budgets
from tickdsl.results.caveats import alarms, caveats
from tickdsl.results.conclusions import conclusions
from tickdsl.results.device_time import device_time, workers_now
from tickdsl.results.estimates import CONFIDENCE, Estimate, estimate
from tickdsl.results.extra_metrics import MeasuredValue, NetworkKey, machine_notes, measured_values
from tickdsl.results.scores import ACCURACY, best_score_of, score_of
from tickdsl.results.searches import searches
from tickdsl.results.standings import Standing, compute_standings
from tickdsl.results.state import MetricKey, RunState
from tickdsl.results.store_keys import StoreKeys, store_keys

VERSION = 1
_METRIC_FIELDS = (
    "accuracy", "loss", "sparsity", "params", "macs", "filters", "seconds", "best_accuracy", "best_epoch",
)  # fmt: skip
_SCORE_FIELDS = ("score", "best_score")
#: Columns of results.csv by the fields of a budget.
_BUDGET_COLUMNS = {"trained.epochs": "epochs", "trained.images": "images", "trained.seconds": "seconds"}


def write_results(state: RunState, paths: RunPaths) -> None:
    """Write results.json and results.csv atomically. Raises TickdslError if a file cannot be written."""
    write_atomically(paths.results_json, (json.dumps(results_dict(state), indent=1, allow_nan=False) + "\n").encode())
    write_atomically(paths.results_csv, results_csv(state).encode())


def results_dict(state: RunState) -> dict[str, Any]:
    """The content of results.json."""
    standings, extra_values, keys = compute_standings(state), measured_values(state), store_keys(state)
    sentence_by_arm = conclusions(state)
    run = state.run
    return {
        "v": VERSION,
        "run": run.run if run else None,
        "plan": run.plan if run else None,
        "status": state.status,
        "store": run.store if run else None,
        "device": run.device if run else None,
        "versions": dict(run.versions) if run else {},
        "seeds": list(state.seeds),
        "contestants": list(state.contestants),
        "within": state.within,
        "confidence": CONFIDENCE,
        "arms": [
            {
                "id": arm.id,
                "name": arm.name,
                "sweep": dict(arm.sweep),
                "task": state.task_of(arm.id).name,
                "metric": _metric(state.metric_of(arm.id)),
                "conclusion": sentence_by_arm[arm.id],
                "levels": _levels(arm, standings, extra_values, keys, state),
            }
            for arm in state.arms
        ],
        "differences": [_difference(difference) for difference in arm_differences(state)],
        **({"searches": found} if (found := _searches(state)) else {}),
        "device_hours": _device_hours(state),
        **({"transfers": moved} if (moved := _transfers(state)) else {}),
        "warnings": alarms(state),
        "notes": [*state.notes, *caveats(state), *machine_notes(state)],
    }


def _device_hours(state: RunState) -> dict[str, Any]:
    """The cost of the run, and what its workers did."""
    time = device_time(state)
    arms = [
        {"id": arm.id, "used": time.used_by_arm.get(arm.id, 0.0), "stored": time.stored_by_arm.get(arm.id, 0.0)}
        for arm in state.arms
    ]
    workers = [
        {
            "name": name,
            "steps": use.steps,
            "busy_seconds": use.busy,
            "present_seconds": use.present,
            "idle": use.idle_share,
        }
        for name, use in workers_now(state).items()
    ]
    return {
        "used": time.used,
        "stored": time.stored,
        "left": time.left,
        "idle": time.idle,
        "arms": arms,
        "workers": workers,
    }


def _transfers(state: RunState) -> list[dict[str, Any]]:
    return [{"host": host, **attrs.asdict(moved)} for host, moved in sorted(state.transfers.items())]


def _searches(state: RunState) -> list[dict[str, Any]]:
    return [
        {name.removesuffix("_"): value for name, value in attrs.asdict(search).items()} for search in searches(state)
    ]


def results_csv(state: RunState) -> str:
    """The content of results.csv: one row per arm, contestant, level and seed."""
    columns, measurements = results_rows(state)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(columns)
    rows.writerows([cell if isinstance(cell, str) else _cell(cell) for cell in row] for row in measurements)
    return text.getvalue()


def results_rows(state: RunState) -> tuple[list[str], list[list[Any]]]:
    """The columns of results.csv, and a row per arm, contestant, level and seed; None for what was not measured."""
    arms = {arm.id: arm for arm in state.arms}
    sweep_names = sorted({name for arm in state.arms for name in arm.sweep})
    figure_names = dict.fromkeys(name for measure in state.measures.values() for name in measure.figures)
    metrics = [metric for metric in state.report if any(key[1] == metric for key in state.measures)]
    columns = ["arm", "name", *(f"sweep.{name}" for name in sweep_names), "contestant", "level", "seed"]
    scores = list(dict.fromkeys(name for arm in state.arms for name in _other_metrics(state, arm.id)))
    columns += [*_METRIC_FIELDS, "metric", *_SCORE_FIELDS, *(f"score.{name}" for name in scores)]
    held_out = list(dict.fromkeys(name for metric in state.metrics.values() for name in metric.validation))
    columns += [*(f"validation.{name}" for name in held_out), *(["best_validation"] if held_out else [])]
    columns += [*_BUDGET_COLUMNS, *figure_names, *(f"{metric}.how" for metric in metrics)]
    trained = seed_budgets(state)
    rows: list[list[Any]] = []
    for arm_id, contestant, level in compute_standings(state):
        arm = arms.get(arm_id) or ArmInfo(id=arm_id, name=arm_id, sweep={}, levels=0)
        for seed in _seeds(state, arm_id, contestant, level):
            key = (arm_id, contestant, level, seed)
            figures, measured = _extra_figures(state, key), state.metrics[key]
            task_figures = _task_figures(state, key)
            measures = [state.measures.get((key, metric)) for metric in metrics]
            rows.append(
                [
                    *(arm.id, arm.name),
                    *(arm.sweep.get(name) for name in sweep_names),
                    *(contestant, level, seed),
                    *(getattr(measured, name) for name in _METRIC_FIELDS),
                    state.metric_of(arm_id).name,
                    *_scores(state, key).values(),
                    *(task_figures.get(name) for name in scores),
                    *(measured.validation.get(name) for name in held_out),
                    *([measured.best_validation] if held_out else []),
                    *(getattr(trained.get(key), name, None) for name in _BUDGET_COLUMNS.values()),
                    *(figures.get(name) for name in figure_names),
                    *(measure.how if measure else None for measure in measures),
                ]
            )
    return columns, rows


def seed_metrics(state: RunState, arm: str, contestant: str, level: int) -> dict[int, dict[str, Any]]:
    """The measurements of each seed by name: those that every plan has, the task's metrics, and those of `report`."""
    found = {}
    for seed in _seeds(state, arm, contestant, level):
        key = (arm, contestant, level, seed)
        fields = {name: getattr(state.metrics[key], name) for name in _METRIC_FIELDS}
        found[seed] = _task_figures(state, key) | fields | _scores(state, key) | _extra_figures(state, key)
    return found


def _levels(
    arm: ArmInfo,
    standings: Mapping[tuple[str, str, int], Standing],
    extra_values: Mapping[NetworkKey, Mapping[str, MeasuredValue]],
    keys: Mapping[MetricKey, StoreKeys],
    state: RunState,
) -> list[dict[str, Any]]:
    levels: dict[int, dict[str, Any]] = {}
    for (owner, contestant, level), standing in standings.items():
        if owner == arm.id:
            entry = levels.setdefault(level, {"level": level, "contestants": {}})
            entry["contestants"][contestant] = _contestant(
                standing, extra_values.get((owner, contestant, level), {}), keys, state
            )
    return [levels[level] for level in sorted(levels)]


def _contestant(
    standing: Standing,
    extra_values: Mapping[str, MeasuredValue],
    keys: Mapping[MetricKey, StoreKeys],
    state: RunState,
) -> dict[str, Any]:
    key = (standing.arm, standing.contestant, standing.level)
    seeds = []
    for seed in _seeds(state, *key):
        metric = state.metrics[(*key, seed)]
        stored = keys.get((*key, seed))
        seeds.append(
            {
                "seed": seed,
                **{name: getattr(metric, name) for name in _METRIC_FIELDS},
                "units": dict(metric.units),
                **_scores(state, (*key, seed)),
                "scores": _task_figures(state, (*key, seed)),
                "trained": _budget(seed_budgets(state).get((*key, seed))),
                "keys": None if stored is None else attrs.asdict(stored),
            }
        )
        if metric.validation:
            seeds[-1]["validation"] = dict(metric.validation)
        if extra_values:
            seeds[-1]["figures"] = _extra_figures(state, (*key, seed))
    return {
        "score": _estimate(standing.score),
        "accuracy": _estimate(accuracy_over_seeds(state, standing)),
        "sparsity": standing.sparsity,
        "params": standing.params,
        "macs": standing.macs,
        "filters": standing.filters,
        "units": dict(standing.units),
        "seconds": standing.seconds,
        "trained": _budget(budgets(state).get(key)),
        "to_dense": _estimate(standing.to_dense),
        "verdict": standing.verdict,
        "no_verdict": standing.no_verdict,
        "p_winning": standing.p_winning,
        "p_losing": standing.p_losing,
        "lead": _estimate(standing.lead),
        "lead_verdict": standing.lead_verdict,
        "p_ahead": standing.p_ahead,
        "p_behind": standing.p_behind,
        "figures": {
            name: {**(_estimate(figure.value) or {}), "how": figure.how} for name, figure in extra_values.items()
        },
        **({"validation": _estimate(standing.validation)} if standing.validation else {}),
        "seeds": seeds,
    }


def _difference(difference: ArmDifference) -> dict[str, Any]:
    """Two arms compared."""
    return {
        "first": difference.first,
        "second": difference.second,
        "matched_by": difference.matched_by,
        "metric": difference.metric.name,
        "answer": answer(difference),
        "levels": [{**attrs.asdict(level), "difference": _estimate(level.difference)} for level in difference.levels],
        "first_unmatched": list(difference.first_unmatched),
        "second_unmatched": list(difference.second_unmatched),
    }


def _metric(metric: MetricInfo) -> dict[str, Any]:
    return {"name": metric.name, "higher_is_better": metric.higher_is_better, "unit": metric.unit}


def _scores(state: RunState, key: MetricKey) -> dict[str, float | None]:
    """The compared metric of a network, and that of the best epoch, if it is the primary one."""
    metric, measured = state.metric_of(key[0]), state.metrics[key]
    return {"score": score_of(measured, metric), "best_score": best_score_of(measured, metric)}


def _task_figures(state: RunState, key: MetricKey) -> dict[str, float | None]:
    """All metrics of the task, by name."""
    return {metric.name: score_of(state.metrics[key], metric) for metric in state.task_of(key[0]).metrics}


def _other_metrics(state: RunState, arm: str) -> list[str]:
    """The metrics of an arm's task that have no column of their own."""
    return [metric.name for metric in state.task_of(arm).metrics if metric.name not in _METRIC_FIELDS]


def accuracy_over_seeds(state: RunState, standing: Standing) -> Estimate | None:
    """The accuracy over the seeds, also if networks are compared by something else; None for tasks without one."""
    if standing.metric == ACCURACY:
        return standing.score
    accuracies = [
        state.metrics[standing.arm, standing.contestant, standing.level, seed].accuracy
        for seed in _seeds(state, standing.arm, standing.contestant, standing.level)
    ]
    return estimate([accuracy for accuracy in accuracies if accuracy is not None])


def _extra_figures(state: RunState, key: MetricKey) -> dict[str, Any]:
    """The values of the `report` metrics of one network, by name."""
    measures = (state.measures.get((key, metric)) for metric in state.report)
    return {name: value for measure in measures if measure for name, value in measure.figures.items()}


def _seeds(state: RunState, arm: str, contestant: str, level: int) -> list[int]:
    """The measured seeds, in plan order, then any others."""
    measured = {key[3] for key in state.metrics if key[:3] == (arm, contestant, level)}
    return [seed for seed in state.seeds if seed in measured] + sorted(measured - set(state.seeds))


def _budget(budget: Budget | None) -> dict[str, Any] | None:
    return None if budget is None else attrs.asdict(budget)


def _estimate(found: Estimate | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"n": found.n, "mean": found.mean, "half_width": found.half_width}


def _cell(value: float | None) -> str:
    return "" if value is None else repr(value)
