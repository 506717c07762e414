"""Show every few seconds that the run is alive, even while a single step takes hours.

Other runs with the same store see its claims renewed, monitors see its events.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator

import attrs

from tickdsl.engine.machine.resources import ResourceMeter
from tickdsl.errors import TickdslError
from tickdsl.records import events
from tickdsl.records.process import Process
from tickdsl.records.transfers import TRANSFERS, Transfers

INTERVAL_SECONDS = 5.0


@contextlib.contextmanager
def heartbeat(
    emit: Callable[[events.Event], None], renew: Callable[[], None], seconds: float = INTERVAL_SECONDS
) -> Iterator[None]:
    """Emit a Heartbeat and a Resource event, and `renew` the claims of the run, every `seconds` until the block ends.

    A Transfer event follows if there were requests to a bucket; the last one is emitted at the end of the block.
    `emit` and `renew` are called from a thread and must be thread-safe.
    """
    stopped = threading.Event()
    beat_event = events.Heartbeat(pid=os.getpid(), host=socket.gethostname(), boot=Process.current().boot)
    meter = ResourceMeter()

    def keep_beating() -> None:
        while not stopped.wait(seconds):
            renew()
            try:
                emit(beat_event)
                emit(meter.read())
                _emit_transfers(emit)
            except TickdslError:
                return  # the disk is full: the run reports that at its next event

    emit(beat_event)
    emit(meter.read())
    thread = threading.Thread(target=keep_beating, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        _emit_transfers(emit)


def _emit_transfers(emit: Callable[[events.Event], None]) -> None:
    moved = TRANSFERS.take()
    if moved != Transfers():
        emit(events.Transfer(host=socket.gethostname(), **attrs.asdict(moved)))
