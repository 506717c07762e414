"""Estimate how long a study will take, from earlier trainings on this machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from tickdsl.engine.machine.job_limits import default_jobs
from tickdsl.engine.scheduler.forecast import epochs
from tickdsl.plan.steps import Step
from tickdsl.plan.study import Study
from tickdsl.records.canonical import canonical_json
from tickdsl.records.process import host_name
from tickdsl.records.store import Store
from tickdsl.training.device_choice import resolve_devices

#: The range of the estimate lies between these quantiles of the earlier trainings.
_LOW_QUANTILE, _HIGH_QUANTILE = 0.1, 0.9


@attrs.frozen
class Estimate:
    """The time in seconds with `jobs` trainings at the same time, and its range; from `samples` earlier trainings.

    device_share: the part of a device that each job has; a worker on CPUs counts as a device.
    """

    seconds: float
    low: float
    high: float
    jobs: int
    samples: int
    device_share: float = 1.0

    @property
    def device_hours(self) -> float:
        """The hours of all devices together."""
        return self.seconds * self.jobs * self.device_share / 3600


@attrs.frozen
class NoEstimate:
    """Why the time cannot be estimated."""

    reason: str


def estimate_duration(study: Study, to_run: Iterable[str], store: Store | None, data: Path) -> Estimate | NoEstimate:
    """Estimate the time of the trainings among the steps `to_run` on this machine.

    The time per epoch is taken from stored trainings on this host and the kind of device that a run would use, with the
    same network, data set and batch size. It is their own time, over all processes that they trained in and without
    pauses. Pruned networks train faster, so the range is as wide as that of those trainings. There are as many jobs as
    a run on all devices would have. `data` is the folder of data sets.
    """
    devices = resolve_devices("auto")
    jobs = default_jobs(devices[0].type, study, data, len(devices))
    share = 1.0 if devices[0].type == "cpu" else min(1.0, len(devices) / jobs)
    epochs_by_kind: dict[bytes, float] = {}
    names: dict[bytes, str] = {}
    for key in to_run:
        step = study.step(key)
        length = epochs(step)
        if step.operation != "train":
            continue
        if length is None:
            return NoEstimate("the length of a training is in steps, and the size of its data is not known yet")
        kind = _training_kind(step.parts["args"])
        epochs_by_kind[kind] = epochs_by_kind.get(kind, 0.0) + length
        names[kind] = _training_name(step)
    if not epochs_by_kind:
        return Estimate(0.0, 0.0, 0.0, jobs, 0, share)
    seconds_per_epoch = _seconds_per_epoch(store, set(epochs_by_kind), devices[0].type)
    for kind in epochs_by_kind:
        if kind not in seconds_per_epoch:
            return NoEstimate(f"no training of {names[kind]} is stored from this machine yet")
    median, low, high = (
        sum(length * float(np.quantile(seconds_per_epoch[kind], q)) for kind, length in epochs_by_kind.items()) / jobs
        for q in (0.5, _LOW_QUANTILE, _HIGH_QUANTILE)
    )
    samples = sum(len(seconds_per_epoch[kind]) for kind in epochs_by_kind)
    return Estimate(median, low, high, jobs, samples, share)


def _seconds_per_epoch(store: Store | None, kinds: set[bytes], device: str) -> dict[bytes, list[float]]:
    """The seconds per epoch of stored trainings of this host on this kind of device, by kind."""
    samples: dict[bytes, list[float]] = {}
    for result in store.results("train") if store is not None else ():
        record, made = result.data, result.data.get("made", {})
        if made.get("host") != host_name() or str(made.get("device")).partition(":")[0] != device:
            continue
        parts, seconds = record["parts"], result.metrics.get("train_time", 0.0)
        length = epochs(Step("train", parts["args"], parts["parents"], parts["seed"]))
        kind = _training_kind(parts["args"])
        if kind in kinds and length and seconds > 0 and "budget" not in parts["args"]:
            samples.setdefault(kind, []).append(seconds / length)
    return samples


def _training_kind(args: Mapping[str, Any]) -> bytes:
    return canonical_json([args["model"], args["data"], args["recipe"].get("batch")])


def _training_name(step: Step) -> str:
    part = step.args["data"].get("part")
    part_suffix = f" (part {part['index'] + 1} of {part['parts']})" if part else ""
    return f"{step.args['model']['name']} on {step.args['data']['name']}{part_suffix}"
