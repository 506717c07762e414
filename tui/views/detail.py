"""The details of a step, as text."""

from __future__ import annotations

import time

from tickdsl.results.formatting import format_duration
from tickdsl.results.scores import label, number
from tickdsl.results.state import StepState

from .log import step_description
from .snapshot import Snapshot
from .text_cells import fit


def step_lines(name: str, snapshot: Snapshot) -> list[str]:
    """Lines with the status, times, results and error of a step."""
    step = snapshot.state.steps.get(name)
    if step is None:
        return [f"no step {name} in the plan"]
    info = step.info
    parents = [f"{parent} ({step_description(parent, snapshot)})" for parent in info.parents]
    lines = [
        f"step      {info.id}   {info.operation}",
        f"status    {_status(step, snapshot)}{_attempt(step)}",
        f"arms      {', '.join(info.arms) or 'none'}",
        f"times     {_times(step, snapshot)}",
    ]
    if info.epochs:
        trained = f"{step.epoch:g} of " if step.epoch is not None else ""
        checkpoint = f", checkpoint at {step.checkpoint:g}" if step.checkpoint is not None else ""
        lines.append(f"epochs    {trained}{info.epochs:g}{checkpoint}")
    if step.search is not None:
        lines.append("search    {:,} of {:,} evaluations".format(*step.search))
    for name_shown, value in (("loss", step.loss), ("rate", step.lr), ("penalty", step.penalty)):
        if value is not None:
            lines.append(f"{name_shown:9} {value:.4g}")
    if step.score is not None:
        metric = snapshot.state.step_metric(step)
        on = " on validation data" if step.measured_on == "validation" else ""
        lines.append(f"{fit(label(metric), 9)} {number(metric, step.score)}{on}")
    if parents:
        lines += [f"{'after' if n == 0 else '':9} {parent}" for n, parent in enumerate(parents)]
    lines += [f"{name_shown:9} {value}" for name_shown, value in _metrics(step)]
    if info.key:
        lines.append(f"key       {info.key}")
    if step.error:
        lines += ["", f"error: {step.error}"]
        lines += [line.rstrip() for line in (_trace(step, snapshot) or "").splitlines()]
    return lines


def _status(step: StepState, snapshot: Snapshot) -> str:
    return "interrupted" if step.status == "running" and not snapshot.is_live else step.status


def _attempt(step: StepState) -> str:
    parts = [f"attempt {step.attempt}"] if step.attempt > 1 else []
    parts += [step.worker] if step.worker else []
    return f"   ({', '.join(parts)})" if parts else ""


def _times(step: StepState, snapshot: Snapshot) -> str:
    if step.started is None:
        return "not started in this run"
    began = time.strftime("%H:%M:%S", time.localtime(step.started))
    if step.status == "running" and snapshot.is_live:
        return f"started {began}, running for {format_duration(snapshot.clock_end - step.started)}"
    if step.status == "running":
        return f"started {began}, interrupted"
    return f"started {began}, took {format_duration(step.seconds)}"


def _metrics(step: StepState) -> list[tuple[str, str]]:
    shown_above = {"accuracy", "score", "metric", "loss"}
    return [
        (name.replace("_", " ")[:9], f"{value:g}" if isinstance(value, float) else str(value))
        for name, value in step.metrics.items()
        if name not in shown_above and isinstance(value, (int, float, str))
    ]


def _trace(step: StepState, snapshot: Snapshot) -> str | None:
    """The logged traceback whose text contains the error message of the step, if any."""
    message = (step.error or "").split(" (help:")[0]
    traces = [message for _, message in snapshot.state.log if "Traceback (most recent call last)" in message]
    return next((trace for trace in reversed(traces) if message and message.splitlines()[0] in trace), None)
