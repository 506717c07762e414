"""The workers of a run: what each of them runs, what it has done, and how long it was idle."""

from __future__ import annotations

from tickdsl.plurals import plural
from tickdsl.results.device_time import device_time, hours_in_words, workers_now
from tickdsl.results.formatting import format_duration, transfers
from tickdsl.results.worker_uses import WorkerUse

from .log import step_description
from .snapshot import Snapshot
from .text_cells import fit

_NAME_WIDTH = 28


def worker_lines(snapshot: Snapshot) -> list[str]:
    """The lines of the dialog: the cost so far, transfers to and from a bucket, then each worker."""
    state = snapshot.state
    if not state.uses:
        return ["no worker has started a step yet"]
    time = device_time(state)
    idle = "" if time.idle is None else f", idle {time.idle:.0%} of the time"
    left = "" if time.left is None or not snapshot.is_live else f", about {hours_in_words(time.left)} to go"
    stored = f", {hours_in_words(time.stored)} of earlier runs reused" if time.stored else ""
    lines = [
        f"{plural(len(state.uses), 'worker')}{idle}",
        f"{hours_in_words(time.used)} device hours used{stored}{left}",
        *([transfers(state.transfers.values())] if state.transfers else []),
        "",
        f"{'worker':{_NAME_WIDTH}} {'steps':>5} {'busy':>9} {'idle':>5}  runs",
    ]
    return [*lines, *(_line(name, use, snapshot) for name, use in workers_now(state).items())]


def _line(name: str, use: WorkerUse, snapshot: Snapshot) -> str:
    running = ", ".join(step_description(step, snapshot) for step in sorted(use.running)) if snapshot.is_live else ""
    figures = f"{use.steps:>5} {format_duration(use.busy):>9} {use.idle_share:>5.0%}"
    return f"{fit(name or 'a worker', _NAME_WIDTH)} {figures}  {running or '–'}"
