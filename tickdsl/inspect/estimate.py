"""How long a study will take, from the trainings that this machine did before; no guess where it did none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import numpy as np

from tickdsl.engine.scheduler.event_builders import epochs
from tickdsl.plan.steps import Step
from tickdsl.plan.study import Study
from tickdsl.records.canonical import canonical_json
from tickdsl.records.process import host_name
from tickdsl.records.store import Store

#: Between these quantiles of the earlier trainings lies what is told as the range.
_LOW_QUANTILE, _HIGH_QUANTILE = 0.1, 0.9


@attrs.frozen
class Estimate:
    """Seconds with `jobs` trainings at a time, and the range that earlier trainings suggest; from so many `samples`."""

    seconds: float
    low: float
    high: float
    jobs: int
    samples: int


@attrs.frozen
class NoEstimate:
    """Why there is none."""

    reason: str


def estimate_duration(study: Study, remaining: Iterable[str], store: Store | None, jobs: int) -> Estimate | NoEstimate:
    """The time that the trainings among the steps `remaining` take on this machine.

    Seconds per epoch are those of stored trainings of the same network on the same data with the same batch, made on
    this host; removing filters makes later ones faster, so the range is as wide as theirs was.
    """
    epochs_by_kind: dict[bytes, float] = {}
    names: dict[bytes, str] = {}
    for key in remaining:
        step = study.step(key)
        length = epochs(step)
        if step.operation != "train" or "prefix_of" in study.graph.nodes[key]:
            continue
        if length is None:
            return NoEstimate("a recipe counts in steps, not in epochs")
        kind = _training_kind(step.parts["args"])
        epochs_by_kind[kind] = epochs_by_kind.get(kind, 0.0) + length
        names[kind] = _training_name(step)
    if not epochs_by_kind:
        return Estimate(0.0, 0.0, 0.0, jobs, 0)
    seconds_per_epoch = _seconds_per_epoch(store, set(epochs_by_kind))
    for kind in epochs_by_kind:
        if kind not in seconds_per_epoch:
            return NoEstimate(f"no training of {names[kind]} was kept by this machine yet")
    median, low, high = (
        sum(length * float(np.quantile(seconds_per_epoch[kind], q)) for kind, length in epochs_by_kind.items()) / jobs
        for q in (0.5, _LOW_QUANTILE, _HIGH_QUANTILE)
    )
    return Estimate(median, low, high, jobs, sum(len(seconds_per_epoch[kind]) for kind in epochs_by_kind))


def _seconds_per_epoch(store: Store | None, kinds: set[bytes]) -> dict[bytes, list[float]]:
    """Seconds per epoch of the trainings that this host made, by kind."""
    samples: dict[bytes, list[float]] = {}
    for key in store.keys() if store is not None else ():
        result = store.get(key).data if store is not None else {}
        if result.get("operation") != "train" or result.get("made", {}).get("host") != host_name():
            continue
        parts = result["parts"]
        length = epochs(Step("train", parts["args"], parts["parents"], parts["seed"]))
        kind = _training_kind(parts["args"])
        if kind in kinds and length and result["seconds"] > 0:
            samples.setdefault(kind, []).append(result["seconds"] / length)
    return samples


def _training_kind(args: Mapping[str, Any]) -> bytes:
    return canonical_json([args["model"], args["data"], args["recipe"].get("batch")])


def _training_name(step: Step) -> str:
    part = step.args["data"].get("part")
    part_suffix = f" (part {part['index'] + 1} of {part['parts']})" if part else ""
    return f"{step.args['model']['name']} on {step.args['data']['name']}{part_suffix}"
