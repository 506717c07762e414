"""All that is known of a step, as text."""

from __future__ import annotations

import time

from tickdsl.results.state import StepState
from tickdsl.results.words import duration, percent

from .glance import Glance
from .log import where


def step_lines(name: str, glance: Glance) -> list[str]:
    """The lines about a step: what it is, how it went, what it found, why it failed."""
    step = glance.state.steps.get(name)
    if step is None:
        return [f"step {name} is not in the plan"]
    info = step.info
    parents = [f"{parent} ({where(parent, glance)})" for parent in info.parents]
    lines = [
        f"step      {info.id}   {info.operation}",
        f"status    {step.status}{_attempt(step)}",
        f"arms      {', '.join(info.arms) or 'none'}",
        f"times     {_times(step, glance)}",
    ]
    if info.epochs:
        reached = f"{step.epoch:g} of " if step.epoch is not None else ""
        saved = f", safe on the disk up to {step.checkpoint:g}" if step.checkpoint is not None else ""
        lines.append(f"epochs    {reached}{info.epochs:g}{saved}")
    for label, value in (("loss", step.loss), ("rate", step.lr)):
        if value is not None:
            lines.append(f"{label:9} {value:.4g}")
    if step.accuracy is not None:
        lines.append(f"accuracy  {percent(step.accuracy, 2)}")
    if parents:
        lines += [f"{'after' if n == 0 else '':9} {parent}" for n, parent in enumerate(parents)]
    lines += [f"{label:9} {value}" for label, value in _figures(step)]
    if info.key:
        lines.append(f"key       {info.key}")
    if step.error:
        lines += ["", f"error: {step.error}"]
        lines += [line.rstrip() for line in (_trace(step, glance) or "").splitlines()]
    return lines


def _attempt(step: StepState) -> str:
    parts = [f"attempt {step.attempt}"] if step.attempt > 1 else []
    parts += [step.worker] if step.worker else []
    return f"   ({', '.join(parts)})" if parts else ""


def _times(step: StepState, glance: Glance) -> str:
    if step.started is None:
        return "not begun in this run"
    began = time.strftime("%H:%M:%S", time.localtime(step.started))
    if step.status == "running":
        return f"since {began}, {duration(glance.until - step.started)}"
    return f"began {began}, took {duration(step.seconds)}"


def _figures(step: StepState) -> list[tuple[str, str]]:
    told = {"accuracy", "loss"}
    return [
        (name.replace("_", " ")[:9], f"{value:g}" if isinstance(value, float) else str(value))
        for name, value in step.metrics.items()
        if name not in told and isinstance(value, (int, float, str))
    ]


def _trace(step: StepState, glance: Glance) -> str | None:
    """The traceback that was logged with the step's error: it ends with the error's own words."""
    told = (step.error or "").split(" (help:")[0]
    traces = [message for _, message in glance.state.log if "Traceback (most recent call last)" in message]
    return next((trace for trace in reversed(traces) if told and told.splitlines()[0] in trace), None)
