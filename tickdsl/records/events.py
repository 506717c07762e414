"""The events of a run: one class per type of event; each event is one JSON line of `events.jsonl`.

The types and their fields are a stable interface: a field may be added with a default, none may be renamed or removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import attrs

from tickdsl.plurals import plural
from tickdsl.printable import printable, printable_value

VERSION = 1
#: How a value was obtained.
MEASURED, ESTIMATED = "measured", "estimated"
#: The unit of metrics in [0, 1] that are shown as percentages.
SHARE = "share"


#: Metadata of a field whose text is used as it is, e.g. to open a file; what shows it makes it printable.
_RAW = {"raw": True}


def _printable_fields(cls: type, fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
    """Make the text in an event printable, whether it is written here or read from a file of somebody else."""

    def guard(field: attrs.Attribute[Any]) -> attrs.Attribute[Any]:
        kind = str(field.type)
        if field.metadata.get("raw") or kind.partition(" ")[0] in ("int", "float", "bool"):
            return field
        return field.evolve(converter=printable if kind == "str" else printable_value)

    return [guard(field) for field in fields]


@attrs.frozen(kw_only=True, field_transformer=_printable_fields)
class Event:
    """Base class of all events; `type` is the name of the type in the file."""

    type: ClassVar[str]


@attrs.frozen(kw_only=True, field_transformer=_printable_fields)
class ArmInfo:
    """An arm of the resolved plan; `levels` is the number of rounds, without the dense level 0.

    `target` maps `flops`, `params` or `latency` to the share of the dense network's that is to be gone after the last
    round, if the arm prunes to such a target. `units` are those that its prunes remove; events of earlier versions have
    none. `linked` is what each of its seeds takes from another network, in words (`takes the mask of seed 9`), which
    makes them dependent; "" if they take nothing, and in events of earlier versions.
    """

    id: str
    name: str
    sweep: Mapping[str, Any]
    levels: int
    target: Mapping[str, Any] = attrs.field(factory=dict)
    units: tuple[str, ...] = ()
    linked: str = ""


@attrs.frozen(kw_only=True, field_transformer=_printable_fields)
class StepInfo:
    """A step of the resolved plan; `stored` is true if its result was stored before the run.

    `roles` says what each of the `parents` is for the step, in their order: `weights`, `structure`, `teacher`, …;
    events of earlier versions have none.
    `expected` is true if the run will run the step itself, unless its arm ends early: it is needed and not stored, and
    is not a rewind point that a training stores on its way. `own_structure` is true for a training that changes its
    masks: its result holds the structure of its network.
    """

    id: str
    key: str
    operation: str
    label: str
    arms: tuple[str, ...]
    seed: int | None = None
    epochs: float | None = None
    parents: tuple[str, ...] = ()
    stored: bool = False
    expected: bool = True
    roles: tuple[str, ...] = ()
    own_structure: bool = False


@attrs.frozen(kw_only=True, field_transformer=_printable_fields)
class MeasurementInfo:
    """A measurement that the run will make: `step` measures `contestant` of `arm` after round `level`."""

    arm: str
    contestant: str
    level: int
    seed: int
    step: str


@attrs.frozen(kw_only=True, field_transformer=_printable_fields)
class MetricInfo:
    """A metric of a task.

    unit: `share` for values in [0, 1] that are shown as percentages, otherwise the unit's name, or "" for a plain
    number. per_sample: what one test sample more or less changes, times the number of samples; 0 if the metric changes
    continuously.
    """

    name: str
    higher_is_better: bool
    unit: str = ""
    per_sample: float = 0.0

    @property
    def is_share(self) -> bool:
        """Whether values are shown as percentages, and their differences in points."""
        return self.unit == SHARE


@attrs.frozen(kw_only=True, field_transformer=_printable_fields)
class TaskInfo:
    """The task of an arm's data set, with its metrics, the primary one first.

    sample: what texts call one of its inputs: `image`, or `sample` of other data.
    """

    name: str
    metrics: tuple[MetricInfo, ...]
    sample: str = "image"


@attrs.frozen(kw_only=True, field_transformer=_printable_fields)
class LayerInfo:
    """A layer of the dense network that has weights.

    `path` is its module path, `outputs` the number of its output channels, `weights` the number of its weights and
    `macs` its multiply-adds per image. Layers with coupled channels share a short name in `group` ("" for none).
    """

    path: str
    kind: str
    outputs: int
    weights: int
    macs: int = 0
    group: str = ""


@attrs.frozen(kw_only=True, field_transformer=_printable_fields)
class RunStart(Event):
    """An engine started or resumed a run; `versions` are the versions of the libraries that affect results.

    `jobs` is how many steps it runs at the same time, at most that on the cluster that `workers` names ("ray"; "" for
    processes of its own machine, as in earlier versions). `device_share` is the part of a device that each of them has;
    a worker on CPUs counts as a device.
    """

    type: ClassVar[str] = "run.start"
    run: str
    plan: str
    path: str
    argv: tuple[str, ...]
    pid: int
    host: str
    boot: str
    versions: Mapping[str, Any]
    jobs: int
    device: str
    store: str = attrs.field(metadata=_RAW)
    workers: str = ""
    device_share: float = 1.0

    @property
    def jobs_in_words(self) -> str:
        """How many steps the run does at the same time: `2 jobs`, `a Ray cluster, up to 30 jobs`."""
        jobs = plural(self.jobs, "job")
        return f"a Ray cluster, up to {jobs}" if self.workers == "ray" else jobs


@attrs.frozen(kw_only=True, field_transformer=_printable_fields)
class PlanResolved(Event):
    """All steps and measurements of the run, parents first.

    `within` is what a ticket may lose against dense and still count as winning: a share in [0, 1], in the metric's own
    unit if that is a share, otherwise of the dense network's score.
    `matched_by` is what compared levels of two arms have in common: the share left of the `weights`, `flops` or
    `params`, or the `level`.
    `report` are the metrics that the plan requests (empty for the default metrics); `asked` are the measurements of
    those other than accuracy, which are reported by `measure` events. `open_ended`: arms can end early, so that only a
    bound is known of how much is left. `stops` are the conditions on test results that end a seed of an arm before its
    last round. `data` are the fingerprints of the data that each arm is tested on, by arm id (none in events of earlier
    versions). `tasks` are the tasks of the arms, by arm id; an arm without one is classified and judged by its
    accuracy, as all were in earlier versions. `metric` is the name of the metric that the plan compares by, "" for the
    primary one of each task.
    """

    type: ClassVar[str] = "plan.resolved"
    arms: tuple[ArmInfo, ...]
    contestants: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: tuple[StepInfo, ...]
    measurements: tuple[MeasurementInfo, ...]
    notes: tuple[str, ...] = ()
    within: float = 0.0
    matched_by: str = "weights"
    report: tuple[str, ...] = ()
    asked: tuple[MeasurementInfo, ...] = ()
    open_ended: bool = False
    stops: tuple[str, ...] = ()
    data: Mapping[str, str] = attrs.field(factory=dict)
    tasks: Mapping[str, TaskInfo] = attrs.field(factory=dict)
    metric: str = ""


@attrs.frozen(kw_only=True, field_transformer=_printable_fields)
class Phase(Event):
    """What the engine is `doing` before its first step: `reading cifar10`. May come before `run.start`."""

    type: ClassVar[str] = "phase"
    doing: str


@attrs.frozen(kw_only=True, field_transformer=_printable_fields)
class Network(Event):
    """The dense network that these arms start from, with its layers in the order in which they first run."""

    type: ClassVar[str] = "network"
    arms: tuple[str, ...]
    model: str
    params: int
    macs: int
    layers: tuple[LayerInfo, ...]


@attrs.frozen(kw_only=True, field_transformer=_printable_fields)
class StepStart(Event):
    """A worker started a step; `attempt` is 2 if an earlier worker died."""

    type: ClassVar[str] = "step.start"
    step: str
    attempt: int = 1
    worker: str = ""


@attrs.frozen(kw_only=True, field_transformer=_printable_fields)
class StepProgress(Event):
    """`epoch` of `epochs` is done; `accuracy` is a share in [0, 1], None if it was not measured.

    `measured_on` is the set that the accuracy or score is of: `test`, or `validation` if samples are held out for it.

    Where another task than classification is learnt, `score` is the value of `metric`, its primary metric.

    `penalty` is the factor of a growing penalty (`via penalty`) in the last step, None without one.
    """

    type: ClassVar[str] = "step.progress"
    step: str
    epoch: float
    epochs: float
    loss: float | None = None
    accuracy: float | None = None
    lr: float | None = None
    score: float | None = None
    metric: str | None = None
    measured_on: str = "test"
    penalty: float | None = None


@attrs.frozen(kw_only=True, field_transformer=_printable_fields)
class SearchProgress(Event):
    """A search of amounts has `done` of at most `total` evaluations, those included that were stored before."""

    type: ClassVar[str] = "step.search"
    step: str
    done: int
    total: int


@attrs.frozen(kw_only=True, field_transformer=_printable_fields)
class StepEnd(Event):
    """A step ended.

    `status` is done, stored (its result was stored already), skipped, failed, or waiting (it could not be stacked with
    other trainings and will run later). `seconds` counts this run only, and an equal share for each stacked training.
    """

    type: ClassVar[str] = "step.end"
    step: str
    status: str
    seconds: float = 0.0
    metrics: Mapping[str, Any] = attrs.field(factory=dict)
    error: str | None = None


@attrs.frozen(kw_only=True, field_transformer=_printable_fields)
class Metric(Event):
    """A measurement of a contestant: accuracy and size.

    `accuracy` is the accuracy of the last epoch as a share in [0, 1], `best_accuracy` that of the best epoch
    (`best_epoch`). `sparsity` is the share of the weights that are removed, `filters` the share of the filters that are
    left, `seconds` the wall time of the training (for stacked trainings an equal share of it). `units` are the shares
    that are left of other units, by name: `neurons`, `layers`, and those that the network has of `heads` and
    `head-dims`.

    `test_images` is the size of the test set, `chance` the primary metric of the best answer that ignores the input
    (for a classifier the share of the most frequent class), if there is such a thing, `correct` which of its images are
    classified correctly (see `tickdsl.records.image_flags`); results of earlier versions have none of them.
    `not_finite` names tensors with values that are not finite, at most a few.

    Where another task than classification is learnt, there is no `accuracy`: `score` is the value of `metric`, the
    primary metric of the task, `best_score` that of the best epoch, and `figures` are all of its figures by name.

    If samples are held out for validation, `validation` are the figures on them by name, and `best_epoch` is the best
    one there: it has the score `best_validation`, and its score on the test set is not known.
    """

    type: ClassVar[str] = "metric"
    arm: str
    contestant: str
    level: int
    seed: int
    step: str
    accuracy: float | None
    loss: float | None = None
    sparsity: float | None = None
    params: int | None = None
    macs: int | None = None
    filters: float | None = None
    seconds: float | None = None
    best_accuracy: float | None = None
    best_epoch: int | None = None
    test_images: int | None = None
    chance: float | None = None
    correct: str | None = None
    not_finite: tuple[str, ...] = ()
    score: float | None = None
    metric: str | None = None
    best_score: float | None = None
    figures: Mapping[str, Any] = attrs.field(factory=dict)
    validation: Mapping[str, Any] = attrs.field(factory=dict)
    best_validation: float | None = None
    units: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True, field_transformer=_printable_fields)
class Measure(Event):
    """A measurement of a metric that the plan requests with `report METRIC`: `figures` are numbers by name.

    The main figure has the name of the metric, the details have names that start with it: `latency`, `latency.batch`.
    `how` is "measured" or "estimated", `host` the machine that did it.
    """

    type: ClassVar[str] = "measure"
    arm: str
    contestant: str
    level: int
    seed: int
    step: str
    metric: str
    figures: Mapping[str, Any]
    how: str = MEASURED
    host: str = ""


@attrs.frozen(kw_only=True, field_transformer=_printable_fields)
class Layers(Event):
    """The `outputs` and `weights` that are left in the layers, by module path; only for layers that lost some."""

    type: ClassVar[str] = "layers"
    arm: str
    contestant: str
    level: int
    seed: int
    outputs: Mapping[str, int]
    weights: Mapping[str, int]


@attrs.frozen(kw_only=True, field_transformer=_printable_fields)
class Checkpoint(Event):
    """A checkpoint of a training was saved after `epoch` epochs."""

    type: ClassVar[str] = "checkpoint"
    step: str
    epoch: float


@attrs.frozen(kw_only=True, field_transformer=_printable_fields)
class Log(Event):
    """A message for the log."""

    type: ClassVar[str] = "log"
    message: str


@attrs.frozen(kw_only=True, field_transformer=_printable_fields)
class Warn(Event):
    """A warning for the user."""

    type: ClassVar[str] = "warn"
    message: str
    code: str | None = None


@attrs.frozen(kw_only=True, field_transformer=_printable_fields)
class Resource(Event):
    """Load of the machine: `cpu` in percent of all cores, `ram` in bytes of the engine and its workers.

    `gpu` describes the first GPU (None if there is none): `percent` busy, `memory` and `total` in bytes, `watts`.
    """

    type: ClassVar[str] = "resource"
    cpu: float | None = None
    ram: int | None = None
    gpu: Mapping[str, Any] | None = None


@attrs.frozen(kw_only=True, field_transformer=_printable_fields)
class Transfer(Event):
    """What an engine on `host`, with its workers, has asked of a bucket since its last event of this type.

    `received` and `sent` are bytes.
    """

    type: ClassVar[str] = "transfer"
    host: str
    requests: int
    received: int
    sent: int


@attrs.frozen(kw_only=True, field_transformer=_printable_fields)
class Heartbeat(Event):
    """The engine is alive. Written every few seconds, even while a single step takes hours."""

    type: ClassVar[str] = "heartbeat"
    pid: int
    host: str
    boot: str


@attrs.frozen(kw_only=True, field_transformer=_printable_fields)
class ControlAck(Event):
    """The engine received the request `id`; `state` is its new state: stopping, pausing, paused or running."""

    type: ClassVar[str] = "control.ack"
    id: str
    command: str
    state: str


@attrs.frozen(kw_only=True, field_transformer=_printable_fields)
class RunEnd(Event):
    """The run ended; `status` is ok, failed, stopped (can be resumed) or interrupted, `exit` is the exit code."""

    type: ClassVar[str] = "run.end"
    status: str
    seconds: float
    exit: int
    message: str | None = None


#: The task of arms that name none.
CLASSIFY = TaskInfo(
    name="classify",
    metrics=(
        MetricInfo(name="accuracy", higher_is_better=True, unit=SHARE, per_sample=1.0),
        MetricInfo(name="loss", higher_is_better=False, unit="nats"),
    ),
)

_CLASSES: tuple[type[Event], ...] = (
    RunStart, PlanResolved, Phase, Network, StepStart, StepProgress, StepEnd, Metric, Measure, Layers, Checkpoint, Log,
    Warn, Resource, Transfer, Heartbeat, ControlAck, RunEnd,
)  # fmt: skip

TYPES: Mapping[str, type[Event]] = {kind.type: kind for kind in _CLASSES}
