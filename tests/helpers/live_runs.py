"""Runs of other processes, as they are seen from outside."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tickdsl.records import find_run, read_events
from tickdsl.records.events import StepProgress


def first_epochs(folder: Path) -> dict[str, float]:
    """The epoch of the first report of every training of the newest run in `folder`/runs; empty without one."""
    try:
        records = list(read_events(find_run(folder / "runs").events))
    except Exception as error:  # the run has not created its folder yet
        assert "no run" in str(error) or "No such file" in str(error), error
        return {}
    epochs: dict[str, float] = {}
    for record in records:
        if isinstance(record.event, StepProgress):
            epochs.setdefault(record.event.step, record.event.epoch)
    return epochs


def await_training(folder: Path, alive: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait until the newest run in `folder`/runs has reported an epoch."""
    deadline = time.monotonic() + seconds
    while not first_epochs(folder):
        assert alive() and time.monotonic() < deadline
        time.sleep(0.05)


def weight_bytes(store: Path) -> dict[str, bytes]:
    """The weights of every finished result, by key."""
    return {path.parent.name: path.read_bytes() for path in store.glob("results/*/*/weights.safetensors")}
