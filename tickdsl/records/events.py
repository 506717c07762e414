"""What a run says while it goes: one class per type of event, one JSON line of `events.jsonl` each.

The types and their fields are a frozen surface: one may be added with a default, none is renamed or removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import attrs

VERSION = 1
#: How a figure came about.
MEASURED, ESTIMATED = "measured", "estimated"


@attrs.frozen(kw_only=True)
class Event:
    """What all events have in common: their type's name in the file."""

    type: ClassVar[str]


@attrs.frozen(kw_only=True)
class ArmInfo:
    """An arm of the resolved plan: `levels` is the number of rounds, without the dense level 0."""

    id: str
    name: str
    sweep: Mapping[str, Any]
    levels: int


@attrs.frozen(kw_only=True)
class StepInfo:
    """A step of the resolved plan; `stored` says that its result was there already."""

    id: str
    key: str
    operation: str
    label: str
    arms: tuple[str, ...]
    seed: int | None = None
    epochs: float | None = None
    parents: tuple[str, ...] = ()
    stored: bool = False


@attrs.frozen(kw_only=True)
class MeasurementInfo:
    """Which step measures what: a `metric` event with these four answers it."""

    arm: str
    contestant: str
    level: int
    seed: int
    step: str


@attrs.frozen(kw_only=True)
class LayerInfo:
    """A layer with a weight, as the dense network has it.

    `path` is its module path, `outputs` counts its output channels, `weights` its single weights and `macs` its
    multiply-adds for one picture. `group` is a short name that layers share whose channels go together, "" for none.
    """

    path: str
    kind: str
    outputs: int
    weights: int
    macs: int = 0
    group: str = ""


@attrs.frozen(kw_only=True)
class RunStart(Event):
    """An engine began, or took up an unfinished run again. `versions` names the libraries that matter."""

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
    store: str


@attrs.frozen(kw_only=True)
class PlanResolved(Event):
    """Everything the run is going to do, in an order in which it can be done.

    `within` is how much accuracy, as a share, a ticket may fall short of dense and still count as winning.
    `report` names the metrics that the plan asks for, none where it leaves the choice; `asked` says which steps answer
    them beside accuracy, by `measure` events.
    """

    type: ClassVar[str] = "plan.resolved"
    arms: tuple[ArmInfo, ...]
    contestants: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: tuple[StepInfo, ...]
    measurements: tuple[MeasurementInfo, ...]
    notes: tuple[str, ...] = ()
    within: float = 0.0
    report: tuple[str, ...] = ()
    asked: tuple[MeasurementInfo, ...] = ()


@attrs.frozen(kw_only=True)
class Network(Event):
    """The dense network that these arms begin with; its layers in the order in which they first run."""

    type: ClassVar[str] = "network"
    arms: tuple[str, ...]
    model: str
    params: int
    macs: int
    layers: tuple[LayerInfo, ...]


@attrs.frozen(kw_only=True)
class StepStart(Event):
    type: ClassVar[str] = "step.start"
    step: str
    attempt: int = 1
    worker: str = ""


@attrs.frozen(kw_only=True)
class StepProgress(Event):
    """`epoch` of `epochs` is done; `accuracy` is a share in [0, 1], None where it was not measured."""

    type: ClassVar[str] = "step.progress"
    step: str
    epoch: float
    epochs: float
    loss: float | None = None
    accuracy: float | None = None
    lr: float | None = None


@attrs.frozen(kw_only=True)
class StepEnd(Event):
    """`status` is done, stored (the result was there), skipped, failed, or waiting: it was to be stacked and is done by
    itself after all. `seconds` counts this run only, of a stacked training its share.
    """

    type: ClassVar[str] = "step.end"
    step: str
    status: str
    seconds: float = 0.0
    metrics: Mapping[str, Any] = attrs.field(factory=dict)
    error: str | None = None


@attrs.frozen(kw_only=True)
class Metric(Event):
    """One measurement: `accuracy` is a share in [0, 1], `sparsity` the share of the weights that is gone.

    `filters` is the share of the filters that is left, `seconds` the wall time of the training (of stacked ones a
    share). `accuracy` is that of the last epoch; `best_accuracy` that of the best one, the `best_epoch`-th.
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


@attrs.frozen(kw_only=True)
class Measure(Event):
    """What `report METRIC` asks of a network beside its accuracy: `figures` are numbers by name.

    The main figure has the metric's name, details names that begin with it: `latency`, `latency.batch`. `how` says
    whether they were measured or estimated, `host` by which machine.
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


@attrs.frozen(kw_only=True)
class Layers(Event):
    """What a structure leaves of the layers: of each that lost something its `outputs` and its `weights`."""

    type: ClassVar[str] = "layers"
    arm: str
    contestant: str
    level: int
    seed: int
    outputs: Mapping[str, int]
    weights: Mapping[str, int]


@attrs.frozen(kw_only=True)
class Checkpoint(Event):
    type: ClassVar[str] = "checkpoint"
    step: str
    epoch: float


@attrs.frozen(kw_only=True)
class Log(Event):
    type: ClassVar[str] = "log"
    message: str


@attrs.frozen(kw_only=True)
class Warn(Event):
    type: ClassVar[str] = "warn"
    message: str
    code: str | None = None


@attrs.frozen(kw_only=True)
class Resource(Event):
    """Load of the machine: `cpu` in percent of all cores, `ram` the engine's bytes with its workers'.

    `gpu` is None where there is none: `percent` busy, `memory` and `total` in bytes, `watts`, of the first one.
    """

    type: ClassVar[str] = "resource"
    cpu: float | None = None
    ram: int | None = None
    gpu: Mapping[str, Any] | None = None


@attrs.frozen(kw_only=True)
class Heartbeat(Event):
    """The engine lives. Written every few seconds, also while a single step takes hours."""

    type: ClassVar[str] = "heartbeat"
    pid: int
    host: str
    boot: str


@attrs.frozen(kw_only=True)
class ControlAck(Event):
    """The engine saw request `id`; `state` is what it is now: stopping, pausing, paused or running."""

    type: ClassVar[str] = "control.ack"
    id: str
    command: str
    state: str


@attrs.frozen(kw_only=True)
class RunEnd(Event):
    """`status` is ok, failed, stopped (resumable) or interrupted; `exit` the engine's exit code."""

    type: ClassVar[str] = "run.end"
    status: str
    seconds: float
    exit: int
    message: str | None = None


_CLASSES: tuple[type[Event], ...] = (
    RunStart, PlanResolved, Network, StepStart, StepProgress, StepEnd, Metric, Measure, Layers, Checkpoint, Log, Warn,
    Resource, Heartbeat, ControlAck, RunEnd,
)  # fmt: skip

TYPES: Mapping[str, type[Event]] = {kind.type: kind for kind in _CLASSES}
