"""Writes TensorBoard files in a background thread, so that training never waits for it."""

from __future__ import annotations

import math
import queue
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tensorboardX import summary
from tensorboardX.proto.summary_pb2 import Summary

from tickdsl.records.bucket_location import store_folder
from tickdsl.records.bucket_store import open_store
from tickdsl.records.event_decode import EventRecord
from tickdsl.records.events import (
    CLASSIFY,
    Layers,
    Metric,
    MetricInfo,
    Network,
    PlanResolved,
    RunEnd,
    RunStart,
    StepEnd,
    StepProgress,
    TaskInfo,
)
from tickdsl.records.store import Result, Store
from tickdsl.results.epoch_values import epoch_values
from tickdsl.results.scores import score_of
from tickdsl.tensorboard.event_file import EventFile
from tickdsl.tensorboard.layer_summaries import layers_image, layers_table
from tickdsl.tensorboard.reorder_buffer import ReorderBuffer
from tickdsl.tensorboard.tag_layout import Series, TagLayout, TrainingCurve
from tickdsl.tensorboard.weight_histograms import histograms

FLUSH_SECONDS = 10.0
_HANDLED_EVENTS = (RunStart, PlanResolved, Network, StepProgress, StepEnd, Metric, Layers, RunEnd)
#: Columns of the stored epoch records of a training, after the epoch itself.
_EPOCH_COLUMNS = ("train_loss", "test_loss", "accuracy", "learning_rate")
_ROUND_METRICS = ("loss", "sparsity", "params", "macs", "filters")


class TensorBoardWriter:
    """Writes the events of one run below `folder`.

    The folder is emptied first: a resumed run rewrites its earlier values from the store, without gaps or duplicates.
    An exception stops the writing and is kept in `error`; it never affects the run.
    """

    def __init__(self, folder: Path) -> None:
        self.error: Exception | None = None
        self._queue: queue.SimpleQueue[EventRecord | None] = queue.SimpleQueue()
        self._handler = _EventHandler(folder)
        self._thread = threading.Thread(target=self._write_loop, name="tensorboard", daemon=True)
        self._thread.start()

    def submit(self, record: EventRecord) -> None:
        """Queue an event; returns immediately."""
        if isinstance(record.event, _HANDLED_EVENTS):
            self._queue.put(record)

    def close(self) -> None:
        """Write all queued events and stop the thread."""
        self._queue.put(None)
        self._thread.join()

    def _write_loop(self) -> None:
        try:
            flushed = time.monotonic()
            while True:
                try:
                    record = self._queue.get(timeout=FLUSH_SECONDS)
                    if record is None:
                        return self._handler.close()
                    self._handler.handle(record)
                except queue.Empty:
                    pass
                if time.monotonic() - flushed >= FLUSH_SECONDS:
                    self._handler.flush()
                    flushed = time.monotonic()
        except Exception as exception:
            self.error = exception


class _EventHandler:
    """Writes each event; runs in the background thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._run: RunStart | None = None
        self._store: Store | None = None
        self._reset(None)

    def _reset(self, plan: PlanResolved | None) -> None:
        self._plan = plan
        self._keys = {step.id: step.key for step in plan.steps} if plan else {}
        self._epochs = {step.id: step.epochs for step in plan.steps} if plan else {}
        self._layout = TagLayout(plan) if plan else None
        self._networks: dict[str, Network] = {}
        self._files: dict[Series, EventFile] = {}
        self._written: dict[str, float] = {}  # step -> last epoch written
        self._metrics: dict[Series, ReorderBuffer[Metric]] = {}
        self._layers: dict[Series, ReorderBuffer[Layers]] = {}
        self._rounds: dict[Series, dict[int, Layers]] = defaultdict(dict)
        self._written_metrics: dict[Series, list[Metric]] = defaultdict(list)

    def handle(self, record: EventRecord) -> None:
        match record.event:
            case RunStart() as start:
                self._run, self._store = start, None
                shutil.rmtree(self._folder, ignore_errors=True)
            case PlanResolved() as plan:
                self._reset(plan)
            case Network() as network:
                self._networks |= dict.fromkeys(network.arms, network)
            case StepProgress() as progress:
                self._progress(progress, record.t)
            case StepEnd() as end if end.status in ("done", "stored"):
                self._step_end(end, record.t)
            case Metric() as metric:
                self._on_metric(metric, record.t)
            case Layers() as layers:
                self._on_layers(layers, record.t)
            case RunEnd():
                self._run_end(record.t)

    def flush(self) -> None:
        for file in self._files.values():
            file.flush()

    def close(self) -> None:
        self.flush()

    # -- trainings

    def _training_curves(self, step: str) -> list[TrainingCurve]:
        return self._layout.training_curves.get(step, []) if self._layout else []

    def _progress(self, event: StepProgress, t: float) -> None:
        """Write an epoch of a training.

        For a training resumed from a checkpoint, the earlier epochs are unknown, so nothing is written until all its
        epochs are in the store.
        """
        if event.step not in self._written:
            # Epochs count from the start of the recipe, even if the training was rewound to a later epoch.
            planned_epochs = self._epochs.get(event.step) or event.epochs
            self._written[event.step] = max(0.0, math.floor(event.epochs - planned_epochs))
        if not self._written[event.step] < event.epoch <= self._written[event.step] + 1:
            return
        self._written[event.step] = event.epoch
        values = epoch_values(event)
        for curve in self._training_curves(event.step):
            self._scalars(curve.series, {curve.tag(name): value for name, value in values.items()},
                          event.epoch, t)  # fmt: skip

    def _step_end(self, event: StepEnd, t: float) -> None:
        """Write what was not reported during training: test losses, and epochs trained in other runs."""
        curves = self._training_curves(event.step)
        written = self._written.get(event.step, 0.0)
        if not curves or written == math.inf or (result := self._result(event.step)) is None:
            return
        epochs: Iterable[tuple[float, ...]] = result.metrics.get("epochs", ())
        score = result.metrics.get("metric", "accuracy")
        held_out = "validation" if result.metrics.get("validation") else ""
        names = {"accuracy": f"{held_out}_{score}".strip("_"), "test_loss": f"{held_out or 'test'}_loss"}
        columns = [names.get(name, name) for name in _EPOCH_COLUMNS]
        penalties: dict[float, float] = dict(result.metrics.get("penalty", ()))
        for epoch, *measured in epochs:
            already_written = epoch <= written
            values = {name: value for name, value in zip(columns, measured, strict=False)
                      if not already_written or name == names["test_loss"]}  # fmt: skip
            if not already_written and epoch in penalties:
                values["penalty"] = penalties[epoch]
            for curve in curves:
                self._scalars(curve.series, {curve.tag(name): value for name, value in values.items()},
                              epoch, t)  # fmt: skip
        self._written[event.step] = math.inf

    def _result(self, step: str) -> Result | None:
        if self._store is None and self._run is not None:
            self._store = open_store(store_folder(self._run.store))
        try:
            return self._store.get(self._keys[step]) if self._store else None
        except KeyError:
            return None

    # -- rounds

    def _on_metric(self, event: Metric, t: float) -> None:
        if self._layout is None:
            return
        series = self._layout.series(event.arm, event.contestant, event.seed)
        if series not in self._metrics:
            self._metrics[series] = ReorderBuffer(self._layout.levels[series])
        for _, metric in self._metrics[series].put(event.level, event):
            self._write_metric(series, metric, t)

    def _write_metric(self, series: Series, metric: Metric, t: float) -> None:
        values = {_round_tag(name): getattr(metric, name) for name in _ROUND_METRICS}
        for number, described in enumerate(self._task(series.arm).metrics):
            values[_round_tag(described.name, is_primary=not number)] = score_of(metric, described)
        self._scalars(series, values, metric.level, t)
        self._written_metrics[series].append(metric)
        if series.contestant == "ticket" and (result := self._result(metric.step)) is not None:
            self._add(series, histograms(result.folder), metric.level, t)

    def _task(self, arm: str) -> TaskInfo:
        """The task of an arm."""
        return (self._plan.tasks.get(arm) if self._plan else None) or CLASSIFY

    def _on_layers(self, event: Layers, t: float) -> None:
        if self._layout is None or event.contestant != "ticket":
            return
        series = self._layout.series(event.arm, event.contestant, event.seed)
        if series not in self._layers:
            self._layers[series] = ReorderBuffer(level for level in self._layout.levels[series] if level > 0)
        for level, layers in self._layers[series].put(event.level, event):
            self._write_layers(series, level, layers, t)

    def _write_layers(self, series: Series, level: int, layers: Layers, t: float) -> None:
        network = self._networks.get(series.arm)
        if network is not None and network.layers:
            self._rounds[series][level] = layers
            summaries = [layers_table(network, layers), layers_image(network, self._rounds[series])]
            self._add(series, summaries, level, t)

    # -- the end

    def _run_end(self, t: float) -> None:
        for series, metrics in self._metrics.items():
            for _, metric in metrics.remaining():
                self._write_metric(series, metric, t)
        for series, buffer in self._layers.items():
            for level, layers in buffer.remaining():
                self._write_layers(series, level, layers, t)
        for series, written_metrics in self._written_metrics.items():
            self._hparams(series, written_metrics, t)
        self.flush()

    def _hparams(self, series: Series, metrics: list[Metric], t: float) -> None:
        """Write settings and final results of a series for TensorBoard's HPARAMS table."""
        arm = next((arm for arm in self._plan.arms if arm.id == series.arm), None) if self._plan else None
        network = self._networks.get(series.arm)
        settings: dict[str, Any] = {"arm": arm.name if arm else series.arm, "contestant": series.contestant}
        settings |= {"seed": series.seed, "model": network.model if network else None}
        settings |= {f"sweep.{name}": _setting(value) for name, value in (arm.sweep.items() if arm else ())}
        primary = self._task(series.arm).metrics[0]
        final = {f"final/{primary.name}": _score(metrics[-1], primary.name)}
        final |= {f"final/{name}": getattr(metrics[-1], name) for name in ("sparsity", "params", "macs")}
        best = [score for metric in metrics if metric.level and (score := _score(metric, primary.name)) is not None]
        final[f"best/{primary.name}"] = (max if primary.higher_is_better else min)(best, default=None)
        known = {name: value for name, value in final.items() if value is not None}
        self._add(series, summary.hparams(settings, known), 0, t)
        self._scalars(series, known, metrics[-1].level, t)

    # -- files

    def _scalars(self, series: Series, values: Mapping[str, float | None], step: float, t: float) -> None:
        summaries = [summary.scalar(name, float(value)) for name, value in values.items() if value is not None]
        self._add(series, summaries, step, t)

    def _add(self, series: Series, summaries: Iterable[Summary], step: float, t: float) -> None:
        if series not in self._files:
            self._files[series] = EventFile(self._folder / series.folder, t)
        for item in summaries:
            self._files[series].add(item, int(step), t)


def _score(metric: Metric, name: str) -> float | None:
    """A metric of the task, by name."""
    return score_of(metric, MetricInfo(name=name, higher_is_better=True))


def _round_tag(name: str, is_primary: bool = False) -> str:
    """The tag of a metric over rounds; the task's own one has a group of its own."""
    return f"{name}/by-round" if is_primary else f"round/{name}"


def _setting(value: Any) -> str | float | bool:
    return value if isinstance(value, (bool, int, float)) else str(value)
