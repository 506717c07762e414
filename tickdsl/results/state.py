"""The state of a run, built from its events. Monitor, tables and reports read nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import attrs

from tickdsl.records.events import (
    CLASSIFY,
    ArmInfo,
    Heartbeat,
    Layers,
    Measure,
    MeasurementInfo,
    Metric,
    MetricInfo,
    Network,
    Resource,
    RunStart,
    StepInfo,
    TaskInfo,
    Warn,
)
from tickdsl.records.transfers import Transfers
from tickdsl.results.early_ends import unlikely_steps
from tickdsl.results.worker_uses import WorkerUse

FINISHED_STATUSES = frozenset({"done", "stored"})
ENDED_STATUSES = frozenset({"ok", "failed", "stopped", "interrupted"})

MetricKey = tuple[str, str, int, int]  # arm id, contestant, level, seed
MeasureKey = tuple[MetricKey, str]  # and the metric named in `report`


class EpochMetrics(NamedTuple):
    """Training metrics after an epoch; `score` is the primary metric, None for a value that was not measured.

    `measured_on` is the set that the score is of, `test` or `validation`; `penalty` the factor of a growing penalty.
    """

    epoch: float
    loss: float | None
    score: float | None
    lr: float | None
    penalty: float | None = None
    measured_on: str = "test"


@attrs.frozen
class StepState:
    """State of a step: `status` is waiting, running, done, stored, skipped or failed; times are seconds since 1970.

    `score` is the primary metric of the task. `history` holds the epochs that its training reported in this run,
    thinned if there are many.
    """

    info: StepInfo
    status: str = "waiting"
    attempt: int = 0
    worker: str = ""
    started: float | None = None
    ended: float | None = None
    seconds: float = 0.0
    epoch: float | None = None
    epochs: float | None = None
    loss: float | None = None
    score: float | None = None
    measured_on: str = "test"  # what the score is of: `test`, or `validation` while a training holds data out
    lr: float | None = None
    search: tuple[int, int] | None = None  # evaluations so far, and the most that there will be
    penalty: float | None = None
    checkpoint: float | None = None  # the epoch of the last checkpoint on disk
    history: tuple[EpochMetrics, ...] = ()
    metrics: Mapping[str, Any] = attrs.field(factory=dict)
    error: str | None = None

    @property
    def planned_epochs(self) -> float:
        """Epochs of the training; none of a rewind point that another training stores on its way."""
        return self.info.epochs or 0.0 if self.is_planned or self.status == "stored" else 0.0

    @property
    def is_planned(self) -> bool:
        """Whether the run runs this step itself."""
        return self.info.expected or self.status == "running"

    @property
    def remaining_epochs(self) -> float:
        """Epochs that remain to be trained. The training's own count may start later than at 0: at a rewind point."""
        if self.status not in ("waiting", "running") or not self.is_planned:
            return 0.0
        if self.epoch is None or self.epochs is None:
            return self.info.epochs or 0.0
        return max(0.0, self.epochs - self.epoch)


@attrs.frozen
class Pace:
    """Progress of this attempt of the run: `epochs` trained in `seconds`, excluding pauses."""

    epochs: float = 0.0
    steps: int = 0
    seconds: float = 0.0
    running_since: float | None = None  # when the clock was last started; None while it is stopped


@attrs.frozen
class RunState:
    """State of a run after its events so far.

    `status` is waiting (no event yet), running, pausing, paused, stopping, ok, failed, stopped or interrupted. Times
    are seconds since 1970. `metrics` and `layers` map (arm id, contestant, level, seed) to the score and sizes
    measured there and to the remaining layer sizes; `measures` maps that key and a metric named in `report`
    to its values; `networks` maps arm ids to the dense networks. `open_ended`: arms can end early.

    `tasks` maps arm ids to tasks, and `compared` to the metrics that networks are compared by if these are not the
    primary ones; `task_of`, `primary_of` and `metric_of` also know the arms of earlier versions, which have no task.
    """

    run: RunStart | None = None
    status: str = "waiting"
    phase: str = ""  # what the engine does before its first step
    attempts: int = 0
    started: float | None = None
    ended: float | None = None
    now: float = 0.0  # the time of the last event
    arms: tuple[ArmInfo, ...] = ()
    contestants: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    within: float = 0.0
    matched_by: str = "weights"
    report: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()  # conditions on test results that end a seed of an arm early
    data: Mapping[str, str] = attrs.field(factory=dict)  # fingerprint of the test data by arm id
    tasks: Mapping[str, TaskInfo] = attrs.field(factory=dict)
    compared: Mapping[str, MetricInfo] = attrs.field(factory=dict)
    steps: Mapping[str, StepState] = attrs.field(factory=dict)
    measurements: tuple[MeasurementInfo, ...] = ()
    extra_measurements: tuple[MeasurementInfo, ...] = ()
    metrics: Mapping[MetricKey, Metric] = attrs.field(factory=dict)
    measures: Mapping[MeasureKey, Measure] = attrs.field(factory=dict)
    networks: Mapping[str, Network] = attrs.field(factory=dict)
    layers: Mapping[MetricKey, Layers] = attrs.field(factory=dict)
    notes: tuple[str, ...] = ()
    open_ended: bool = False
    warnings: tuple[Warn, ...] = ()
    log: tuple[tuple[float, str], ...] = ()
    resource: Resource | None = None
    heartbeat: Heartbeat | None = None
    pace: Pace = attrs.field(factory=Pace)
    uses: Mapping[str, WorkerUse] = attrs.field(factory=dict)  # what each worker did, by its name
    transfers: Mapping[str, Transfers] = attrs.field(factory=dict)  # to and from a bucket, by host
    exit: int | None = None
    message: str | None = None
    skipped_events: int = 0  # events, or parts of them, that do not fit the plan

    def task_of(self, arm: str) -> TaskInfo:
        """The task of an arm."""
        return self.tasks.get(arm, CLASSIFY)

    def sample_of(self, *arms: str) -> str:
        """What one input of these arms is called, without any those of all arms: `image`, if it is one for all."""
        nouns = {self.task_of(arm).sample for arm in arms or [arm.id for arm in self.arms]}
        return "image" if nouns <= {"image"} else "sample"

    def primary_of(self, arm: str) -> MetricInfo:
        """The primary metric of an arm's task."""
        return self.task_of(arm).metrics[0]

    def metric_of(self, arm: str) -> MetricInfo:
        """The metric that the networks of an arm are compared by."""
        return self.compared.get(arm) or self.primary_of(arm)

    def step_metric(self, step: StepState) -> MetricInfo:
        """The metric that the score of a step is a value of."""
        return self.primary_of(step.info.arms[0] if step.info.arms else "")

    @property
    def elapsed(self) -> float:
        """Seconds between the first and the last event."""
        return 0.0 if self.started is None else self.now - self.started

    @property
    def finished_steps(self) -> int:
        """The number of steps that are done or stored."""
        return sum(step.status in FINISHED_STATUSES for step in self.steps.values())

    def count(self, status: str) -> int:
        """The number of steps with this status."""
        return sum(step.status == status for step in self.steps.values())

    @property
    def eta(self) -> float | None:
        """Estimated seconds until the run ends, counted from the last event; None if unknown.

        If the plan is `open_ended`, seeds of an arm are expected to end where others of that arm have ended; while
        none has, it is an upper bound.
        """
        if self.status in ENDED_STATUSES or not self.steps:
            return None
        seconds = self.pace.seconds + (
            self.now - self.pace.running_since if self.pace.running_since is not None else 0.0
        )
        unlikely = unlikely_steps(self.steps, self.measurements) if self.open_ended else frozenset()
        left = [
            step
            for name, step in self.steps.items()
            if step.status in ("waiting", "running") and step.is_planned and name not in unlikely
        ]
        lengths_known = all(step.info.epochs is not None for step in left if step.info.operation == "train")
        if lengths_known and any(step.planned_epochs for step in self.steps.values()):
            epochs = sum(step.remaining_epochs for step in left)
            done: float = self.pace.epochs
        else:
            done, epochs = self.pace.steps, float(len(left))
        return epochs * seconds / done if done > 0 and seconds > 0 else None
