"""Says every few seconds that the run lives, also while a single step takes hours."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator

from tickdsl.errors import TickdslError
from tickdsl.records import events
from tickdsl.records.process import Process

SECONDS = 5.0


@contextlib.contextmanager
def heartbeat(emit: Callable[[events.Event], None], seconds: float = SECONDS) -> Iterator[None]:
    """Emit a Heartbeat now and every `seconds` until the block ends, from a thread: `emit` must bear that."""
    over = threading.Event()
    beat = events.Heartbeat(pid=os.getpid(), host=socket.gethostname(), boot=Process.current().boot)

    def go_on() -> None:
        while not over.wait(seconds):
            try:
                emit(beat)
            except TickdslError:
                return  # the disk is full: the run itself meets that at its next event

    emit(beat)
    heart = threading.Thread(target=go_on, name="heartbeat", daemon=True)
    heart.start()
    try:
        yield
    finally:
        over.set()
        heart.join()
