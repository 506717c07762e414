"""What a training took and when it was best, from the record that it left: its figures by name.

They are those of the training as it was done, by the machine that did it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tickdsl.plan.model import MeasurementOptions
from tickdsl.records.events import ESTIMATED, MEASURED

Figures = dict[str, float]
MetricResult = tuple[Figures, str] | None

#: Watts of a training by the type of its device, where the plan states none and no counter is readable: a desktop
#: processor's, a large GPU's.
WATTS = {"cpu": 65.0, "cuda": 300.0}
_JOULES_PER_KWH = 3.6e6
#: What a counter saw of a training, where it was not interrupted.
_COMPLETE_SHARE = 0.95


def training_figures(metric: str, record: Mapping[str, Any], measuring: MeasurementOptions) -> MetricResult:
    """The figures of a metric, and whether they are measured or estimated; None where the record does not tell.

    `record` is that of a training's result: `metrics` and how it was `made`.
    """
    return TRAINING_METRICS[metric](record, measuring)


def _train_time(record: Mapping[str, Any], measuring: MeasurementOptions) -> MetricResult:
    metrics = record["metrics"]
    figures = {"train-time": metrics["train_time"]}
    if steps := metrics.get("steps"):
        figures["train-time.step"] = metrics["train_time"] / steps
    return figures, MEASURED if metrics.get("stacked", 1) == 1 else ESTIMATED


def _energy(record: Mapping[str, Any], measuring: MeasurementOptions) -> MetricResult:
    joules, how = _joules(record, measuring)
    seconds = record["metrics"]["train_time"]
    return {"energy": joules, **({"energy.watts": joules / seconds} if seconds else {})}, how


def _carbon(record: Mapping[str, Any], measuring: MeasurementOptions) -> MetricResult:
    """Energy by an intensity (Lacoste et al. 2019): never more than an estimate."""
    joules, _ = _joules(record, measuring)
    return {
        "carbon": joules / _JOULES_PER_KWH * measuring.intensity,
        "carbon.intensity": measuring.intensity,
        "carbon.energy": joules,
    }, ESTIMATED


def _joules(record: Mapping[str, Any], measuring: MeasurementOptions) -> tuple[float, str]:
    """What the counter said; estimated where it saw other jobs too, or not all of the training."""
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
    """The epoch (on the recipe's clock) of the least test loss, the first of equals, and what was reached there."""
    epochs = [(row[2], row[0], row[3]) for row in record["metrics"]["epochs"] if row[2] is not None]
    if not epochs:
        return None
    loss, epoch, accuracy = min(epochs)
    return {"early-stop": epoch, "early-stop.loss": loss, "early-stop.accuracy": accuracy}, MEASURED


TRAINING_METRICS: dict[str, Callable[[Mapping[str, Any], MeasurementOptions], MetricResult]] = {
    "train-time": _train_time,
    "energy": _energy,
    "carbon": _carbon,
    "early-stop": _early_stop,
}
