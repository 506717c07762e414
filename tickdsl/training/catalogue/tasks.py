"""The built-in tasks as far as plans can be checked without torch; a test compares them with the tasks themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping

import attrs

#: The value of a mask's pixel that has no label: it counts neither in the loss nor in a figure.
UNLABELLED = 255


@attrs.frozen
class TaskMetric:
    """A figure of a test.

    unit: `share` for values in [0, 1] that are shown as percentages, otherwise the unit's name, or "" for a plain
    number. per_sample: what one test sample more or less changes, times the number of samples; 0 if the metric changes
    continuously.
    """

    name: str
    higher_is_better: bool
    unit: str = ""
    per_sample: float = 0.0

    def resolution(self, count: int) -> float:
        """The smallest difference that a test set of `count` samples can show; 0 if there is no such limit."""
        return self.per_sample / count

    def is_better(self, value: float, other: float) -> bool:
        """Whether `value` is better than `other`."""
        return value > other if self.higher_is_better else value < other


@attrs.frozen
class TaskInfo:
    """A task of a plan: its metrics, the primary one first, and what plans can ask of it.

    label_smoothing: whether its loss has it. temperature: whether the outputs that are distilled are softened by one.
    probabilities: whether its loss takes probabilities of classes, so that images can be mixed.
    parts_in_turn: whether parts of a network are trained in turn, by losses of their own, which know no teacher.
    averages: whether the outputs of several networks can be averaged.
    alike: the built-in tasks whose outputs its own have the form of; empty if that is not known.
    """

    name: str
    metrics: tuple[TaskMetric, ...]
    has_classes: bool = False
    label_smoothing: bool = False
    temperature: bool = False
    parts_in_turn: bool = False
    alike: tuple[str, ...] = ()
    probabilities: bool = False
    averages: bool = False

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The names of the metrics, and `loss`, which every task has."""
        return tuple(dict.fromkeys([*(metric.name for metric in self.metrics), "loss"]))

    def metric(self, name: str) -> TaskMetric | None:
        """The metric with this name; None if there is none, or if it is only the loss that every task has."""
        return next((metric for metric in self.metrics if metric.name == name), None)


def _builtin(
    name: str,
    *metrics: TaskMetric,
    classes: bool = False,
    soft: bool = False,
    smooth: bool = False,
    in_turn: bool = False,
) -> TaskInfo:
    mixes = name == "classify"
    averages = name not in ("vae", "generate")
    return TaskInfo(
        name, metrics, classes, smooth, soft, in_turn, alike=(name,), probabilities=mixes, averages=averages
    )


_LOSS_IN_NATS = TaskMetric("loss", higher_is_better=False, unit="nats")
_LOSS = TaskMetric("loss", higher_is_better=False)
TASK_INFOS: Mapping[str, TaskInfo] = {
    info.name: info
    for info in (
        _builtin(
            "classify",
            TaskMetric("accuracy", higher_is_better=True, unit="share", per_sample=1.0),
            _LOSS_IN_NATS,
            classes=True,
            soft=True,
            smooth=True,
        ),
        _builtin(
            "tag",
            TaskMetric("map", higher_is_better=True, unit="share"),
            TaskMetric("f1", higher_is_better=True, unit="share"),
            _LOSS_IN_NATS,
            soft=True,
        ),
        _builtin("regress", TaskMetric("rmse", higher_is_better=False), TaskMetric("r2", higher_is_better=True), _LOSS),
        _builtin(
            "segment",
            TaskMetric("miou", higher_is_better=True, unit="share"),
            TaskMetric("pixel-accuracy", higher_is_better=True, unit="share"),
            _LOSS_IN_NATS,
            soft=True,
            smooth=True,
        ),
        _builtin("reconstruct", TaskMetric("mse", higher_is_better=False), _LOSS),
        _builtin(
            "vae",
            TaskMetric("elbo", higher_is_better=True, unit="nats"),
            TaskMetric("cross-entropy", higher_is_better=False, unit="nats"),
            TaskMetric("kl", higher_is_better=False, unit="nats"),
            TaskMetric("mse", higher_is_better=False),
            _LOSS_IN_NATS,
            soft=True,
        ),
        _builtin(
            "generate", TaskMetric("frechet-distance", higher_is_better=False), _LOSS_IN_NATS, soft=True, in_turn=True
        ),
        _builtin("language", TaskMetric("perplexity", higher_is_better=False), _LOSS_IN_NATS, soft=True, smooth=True),
    )
}

#: Metric of a task -> what it means.
METRIC_SUMMARIES: Mapping[str, str] = {
    "accuracy": "test accuracy",
    "loss": "mean loss on the test set: for classifiers the cross-entropy",
    "map": "mean average precision over the labels, on the test set",
    "f1": "mean F1 over the labels, on the test set",
    "rmse": "root mean squared error on the test set",
    "r2": "share of the variance of the test targets that is explained (R²)",
    "miou": "mean intersection over union of the classes, on the test set",
    "pixel-accuracy": "share of the test pixels that are classified correctly",
    "mse": "mean squared error of the test images that are reconstructed",
    "elbo": "evidence lower bound of the test images",
    "cross-entropy": "reconstruction error of the test images, a term of the ELBO",
    "kl": "divergence of the code from its prior, a term of the ELBO",
    "frechet-distance": "Fréchet distance of generated and test images, in features of a network trained on the data",
    "perplexity": "exponential of the mean loss of a test token",
}
#: The least and the largest value of metrics that are no shares.
_BOUNDS = {
    "rmse": (0.0, math.inf),
    "mse": (0.0, math.inf),
    "kl": (0.0, math.inf),
    "frechet-distance": (0.0, math.inf),
    "perplexity": (1.0, math.inf),
    "r2": (-math.inf, 1.0),
}
#: Tasks whose loss is a cross-entropy or a squared error.
_NON_NEGATIVE_LOSSES = ("classify", "tag", "regress", "segment", "language")

#: Metrics of the built-in tasks by name; of those with equal names, that of the first task.
TASK_METRICS: Mapping[str, TaskMetric] = {
    name: next(metric for info in TASK_INFOS.values() for metric in info.metrics if metric.name == name)
    for name in dict.fromkeys(metric.name for info in TASK_INFOS.values() for metric in info.metrics)
}


def is_share(name: str) -> bool:
    """Whether a metric of the built-in tasks is a share, which plans write as a percentage."""
    return name in TASK_METRICS and TASK_METRICS[name].unit == "share"


def bounds(name: str, task: str | None = None) -> tuple[float, float]:
    """The least and the largest value that a metric of a task can have; infinite if that is not known.

    task: its name, which the bounds of its loss depend on; None if it is not known.
    """
    if is_share(name):
        return 0.0, 1.0
    if name == "loss" and task in _NON_NEGATIVE_LOSSES:
        return 0.0, math.inf
    return _BOUNDS.get(name, (-math.inf, math.inf))
