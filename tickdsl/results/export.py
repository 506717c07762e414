"""results.json and results.csv: everything measured, for other programs. docs/results.md describes both."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

from tickdsl.records.events import ArmInfo
from tickdsl.records.files import write_whole
from tickdsl.records.paths import RunPaths
from tickdsl.results.figures import Figure, Key, figures, machines
from tickdsl.results.plots import accuracy_svg
from tickdsl.results.sentence import conclusions
from tickdsl.results.state import MetricKey, RunState
from tickdsl.results.verdict import CONFIDENCE, Estimate, Standing, remarks, standings

VERSION = 1
_MEASURED = (
    "accuracy", "loss", "sparsity", "params", "macs", "filters", "seconds", "best_accuracy", "best_epoch",
)  # fmt: skip


def write_results(state: RunState, paths: RunPaths) -> None:
    """Write results.json, results.csv and the figure, each at once. Raises TickdslError where one cannot be."""
    write_whole(paths.results_json, (json.dumps(results(state), indent=1, allow_nan=False) + "\n").encode())
    write_whole(paths.results_csv, results_csv(state).encode())
    if (figure := accuracy_svg(state)) is not None:
        write_whole(paths.accuracy_svg, figure.encode())


def results(state: RunState) -> dict[str, Any]:
    """The content of results.json."""
    found, asked = standings(state), figures(state)
    sentences = conclusions(state)
    run = state.run
    return {
        "v": VERSION,
        "run": run.run if run else None,
        "plan": run.plan if run else None,
        "status": state.status,
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
                "conclusion": sentences[arm.id],
                "levels": _levels(arm, found, asked, state),
            }
            for arm in state.arms
        ],
        "notes": [*state.notes, *remarks(state), *machines(state)],
    }


def results_csv(state: RunState) -> str:
    """The content of results.csv: one row per arm, contestant, level and seed."""
    arms = {arm.id: arm for arm in state.arms}
    swept = sorted({name for arm in state.arms for name in arm.sweep})
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    sweeps = [f"sweep.{name}" for name in swept]
    asked = dict.fromkeys(name for measure in state.measures.values() for name in measure.figures)
    metrics = [metric for metric in state.report if any(key[1] == metric for key in state.measures)]
    how = [f"{metric}.how" for metric in metrics]
    rows.writerow(["arm", "name", *sweeps, "contestant", "level", "seed", *_MEASURED, *asked, *how])
    for arm_id, contestant, level in standings(state):
        arm = arms.get(arm_id) or ArmInfo(id=arm_id, name=arm_id, sweep={}, levels=0)
        for seed in _seeds(state, arm_id, contestant, level):
            metric = state.metrics[arm_id, contestant, level, seed]
            values = [arm.sweep.get(name, "") for name in swept]
            measured = [_cell(getattr(metric, name)) for name in _MEASURED]
            key = (arm_id, contestant, level, seed)
            more = _figures(state, key)
            measured += [_cell(more.get(name)) for name in asked]
            told = [state.measures.get((key, metric)) for metric in metrics]
            measured += [measure.how if measure else "" for measure in told]
            rows.writerow([arm.id, arm.name, *values, contestant, level, seed, *measured])
    return text.getvalue()


def _levels(
    arm: ArmInfo,
    found: Mapping[tuple[str, str, int], Standing],
    asked: Mapping[Key, Mapping[str, Figure]],
    state: RunState,
) -> list[dict[str, Any]]:
    levels: dict[int, dict[str, Any]] = {}
    for (owner, contestant, level), standing in found.items():
        if owner == arm.id:
            entry = levels.setdefault(level, {"level": level, "contestants": {}})
            entry["contestants"][contestant] = _contestant(standing, asked.get((owner, contestant, level), {}), state)
    return [levels[level] for level in sorted(levels)]


def _contestant(standing: Standing, asked: Mapping[str, Figure], state: RunState) -> dict[str, Any]:
    key = (standing.arm, standing.contestant, standing.level)
    seeds = []
    for seed in _seeds(state, *key):
        metric = state.metrics[(*key, seed)]
        seeds.append({"seed": seed, **{name: getattr(metric, name) for name in _MEASURED}})
        if asked:
            seeds[-1]["figures"] = _figures(state, (*key, seed))
    return {
        "accuracy": _estimate(standing.accuracy),
        "sparsity": standing.sparsity,
        "params": standing.params,
        "macs": standing.macs,
        "filters": standing.filters,
        "seconds": standing.seconds,
        "to_dense": _estimate(standing.to_dense),
        "verdict": standing.verdict,
        "p_winning": standing.p_winning,
        "p_losing": standing.p_losing,
        "lead": _estimate(standing.lead),
        "figures": {name: {**(_estimate(figure.value) or {}), "how": figure.how} for name, figure in asked.items()},
        "seeds": seeds,
    }


def _figures(state: RunState, key: MetricKey) -> dict[str, Any]:
    """What `report` asked of one network, by name."""
    measures = (state.measures.get((key, metric)) for metric in state.report)
    return {name: value for measure in measures if measure for name, value in measure.figures.items()}


def _seeds(state: RunState, arm: str, contestant: str, level: int) -> list[int]:
    """The measured seeds in the plan's order; any others after them."""
    measured = {key[3] for key in state.metrics if key[:3] == (arm, contestant, level)}
    return [seed for seed in state.seeds if seed in measured] + sorted(measured - set(state.seeds))


def _estimate(found: Estimate | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"n": found.n, "mean": found.mean, "half_width": found.half_width}


def _cell(value: float | None) -> str:
    return "" if value is None else repr(value)
