"""Metrics of a training run, computed from its record: time, energy, carbon, data, and when its loss was lowest.

They describe the run as it happened, on the machine that ran it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tickdsl.plan.model import MeasurementOptions
from tickdsl.records.events import ESTIMATED, MEASURED

Figures = dict[str, float]
MetricResult = tuple[Figures, str] | None

#: Assumed watts by device type, if the plan gives none and no counter can be read: a desktop CPU, a large GPU.
WATTS = {"cpu": 65.0, "cuda": 300.0}
_JOULES_PER_KWH = 3.6e6
#: The share of a run's time that its energy reading must cover to count as complete.
_COMPLETE_SHARE = 0.95


def training_figures(metric: str, record: Mapping[str, Any], measuring: MeasurementOptions) -> MetricResult:
    """Compute the figures of a metric, and whether they are measured or estimated; None if the record lacks the data.

    `record` is the record of a training result, with `metrics` and `made`.
    """
    return TRAINING_METRICS[metric](record, measuring)


def _train_time(record: Mapping[str, Any], measuring: MeasurementOptions) -> MetricResult:
    metrics = record["metrics"]
    figures = {"train-time": metrics["train_time"]}
    if steps := metrics.get("steps"):
        figures["train-time.step"] = metrics["train_time"] / steps
    return figures, MEASURED if metrics.get("stacked", 1) == 1 else ESTIMATED


def _data(record: Mapping[str, Any], measuring: MeasurementOptions) -> MetricResult:
    """The memory that the data took, and the share of the time that the training waited for them."""
    metrics = record["metrics"]
    if "data" not in metrics:  # of an earlier version
        return None
    data, seconds = metrics["data"], metrics["train_time"]
    waited = data["wait_seconds"] / seconds if seconds else 0.0
    return {"data": data["bytes"], "data.wait": waited}, MEASURED


def _train_flops(record: Mapping[str, Any], measuring: MeasurementOptions) -> MetricResult:
    """Multiply-adds of all trainings that led to the network, and of the last one; pruned weights take none."""
    metrics = record["metrics"]
    if metrics.get("path_macs") is None:
        return None
    return {"train-flops": metrics["path_macs"], "train-flops.last": metrics["train_macs"]}, MEASURED


def _energy(record: Mapping[str, Any], measuring: MeasurementOptions) -> MetricResult:
    joules, how = _joules(record, measuring)
    seconds = record["metrics"]["train_time"]
    return {"energy": joules, **({"energy.watts": joules / seconds} if seconds else {})}, how


def _carbon(record: Mapping[str, Any], measuring: MeasurementOptions) -> MetricResult:
    """Energy times carbon intensity (Lacoste et al. 2019), which is always an estimate."""
    joules, _ = _joules(record, measuring)
    return {
        "carbon": joules / _JOULES_PER_KWH * measuring.intensity,
        "carbon.intensity": measuring.intensity,
        "carbon.energy": joules,
    }, ESTIMATED


def _joules(record: Mapping[str, Any], measuring: MeasurementOptions) -> tuple[float, str]:
    """The counter's joules; estimated if it also counted other jobs, or did not cover the whole run."""
    seconds, energy_reading = record["metrics"]["train_time"], record["metrics"].get("energy")
    if not energy_reading or not energy_reading["seconds"]:
        device = str(record["made"]["device"]).partition(":")[0]
        return (measuring.watts or WATTS[device]) * seconds, ESTIMATED
    joules, how = (
        energy_reading["joules"] / energy_reading["jobs"],
        MEASURED if energy_reading["jobs"] == 1 else ESTIMATED,
    )
    if energy_reading["seconds"] < _COMPLETE_SHARE * seconds:
        joules, how = joules * seconds / energy_reading["seconds"], ESTIMATED
    return joules, how


def _early_stop(record: Mapping[str, Any], measuring: MeasurementOptions) -> MetricResult:
    """When the loss was lowest, by the recipe's count, with the loss and the score (accuracy) then.

    Measured within epochs: the iteration of the lowest validation loss, and the score on the test set there (Frankle &
    Carbin 2019). Otherwise the first epoch with the lowest loss, of the validation data or else of the test set.
    """
    metrics = record["metrics"]
    name = metrics.get("metric", "accuracy")
    if curve := metrics.get("loss_curve"):
        loss, step, score = min((row[1], row[0], row[3]) for row in curve if row[3] is not None)
        epoch = step * metrics["passes"] / metrics["steps"]
        figures = {"early-stop": epoch, "early-stop.iteration": step, "early-stop.loss": loss}
        return {**figures, f"early-stop.{name}": score}, MEASURED
    epochs = [(row[2], row[0], row[3]) for row in metrics["epochs"] if row[2] is not None]
    if not epochs:
        return None
    loss, epoch, score = min(epochs)
    scored = "validation" if metrics.get("validation") else name
    return {"early-stop": epoch, "early-stop.loss": loss, f"early-stop.{scored}": score}, MEASURED


TRAINING_METRICS: dict[str, Callable[[Mapping[str, Any], MeasurementOptions], MetricResult]] = {
    "train-time": _train_time,
    "train-flops": _train_flops,
    "energy": _energy,
    "carbon": _carbon,
    "early-stop": _early_stop,
    "data": _data,
}
