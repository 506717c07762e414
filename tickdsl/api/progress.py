"""The progress of a run: lines on standard error in scripts, a bar in notebooks."""

from __future__ import annotations

import contextlib
import html
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tickdsl.moments import format_duration
from tickdsl.plurals import plural
from tickdsl.records.events import RunEnd, StepEnd, Warn
from tickdsl.results.state import RunState
from tickdsl.results.state_builder import StateBuilder
from tickdsl.results.step_labels import readable_label

if TYPE_CHECKING:
    from tickdsl.records import EventRecord

_REDRAW_SECONDS = 0.25
_MAX_NOTICES = 20


def progress_listener(wanted: bool) -> Callable[[EventRecord], None]:
    """Shows the events that it gets; does nothing if that is not `wanted`."""
    if not wanted:
        return lambda record: None
    show = NotebookProgress().show if in_notebook() else _lines()

    def listen(record: EventRecord) -> None:
        with contextlib.suppress(OSError):  # nobody reads any more: the run goes on
            show(record)

    return listen


def say(text: str) -> None:
    """Print a text on standard error."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def _lines() -> Callable[[EventRecord], None]:
    from tickdsl.results.plain_progress import PlainProgress

    return PlainProgress(sys.stderr, live=False).show


class NotebookProgress:
    """A bar that is redrawn in the output of the cell, and below it the warnings and the failed steps."""

    def __init__(self) -> None:
        self._builder = StateBuilder()
        self._notices: list[str] = []
        # Only this thread belongs to the cell: the heartbeat of a run comes from another one.
        self._thread = threading.get_ident()
        self._drawn_at = float("-inf")
        self._display: Any = None

    def show(self, record: EventRecord) -> None:
        """Take an event into account, and redraw the bar now and then."""
        event = record.event
        self._builder.add(record)
        if isinstance(event, Warn):
            self._notices.append(f"warning: {event.message}")
        elif isinstance(event, StepEnd) and event.status == "failed":
            self._notices.append(f"{event.step} failed: {event.error}")
        final = isinstance(event, RunEnd)
        if threading.get_ident() == self._thread and (final or time.monotonic() - self._drawn_at >= _REDRAW_SECONDS):
            self._draw()
            self._drawn_at = time.monotonic()

    def _draw(self) -> None:
        bar = ProgressBar(self._builder.state, self._notices[-_MAX_NOTICES:])
        if self._display is None:
            self._display = import_module("IPython.display").display(bar, display_id=True)
        else:
            self._display.update(bar)


class ProgressBar:
    """A moment of a run as HTML, and as one line of text."""

    def __init__(self, state: RunState, notices: list[str]) -> None:
        self._done, self._total = state.finished_steps, len(state.steps)
        self._text = describe(state)
        self._notices = notices

    def __repr__(self) -> str:
        return "\n".join([self._text, *self._notices])

    def _repr_html_(self) -> str:
        bar = f'<progress value="{self._done}" max="{max(1, self._total)}" style="vertical-align:middle"></progress>'
        notices = "".join(f"<div>{html.escape(notice)}</div>" for notice in self._notices)
        return f"<div>{bar} {html.escape(self._text)}</div>{notices}"


def describe(state: RunState) -> str:
    """`12/84 steps, 1m 20s, train ticket, round 3, seed 1, epoch 4/10, 5m left`."""
    parts = [f"{state.finished_steps}/{plural(len(state.steps), 'step')}", format_duration(state.elapsed)]
    running = [step for step in state.steps.values() if step.status == "running"]
    if running:
        step = running[-1]
        parts.append(readable_label(step.info.label))
        parts += [] if step.info.seed is None else [f"seed {step.info.seed}"]
        parts += [f"epoch {step.epoch:g}/{step.epochs:g}"] if step.epoch is not None and step.epochs else []
    if state.eta is not None:
        parts.append(f"{'at most ' if state.open_ended else ''}{format_duration(state.eta)} left")
    if state.ended is not None and state.status != "ok":
        parts.append(state.status)
    return ", ".join(parts)
