"""Write TensorBoard files during a run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tickdsl.cli.output import echo, ignore_closed_output

if TYPE_CHECKING:
    from tickdsl.records import EventRecord


@contextmanager
def tensorboard_listener(wanted: bool, out: Path, into: Path | None) -> Iterator[Callable[[EventRecord], None]]:
    """A listener that writes the events of a run for TensorBoard; if that fails, the run goes on with a warning.

    The folder of the run is `into`, or else a new one in `out`.
    """
    if not wanted:
        yield lambda record: None
        return
    from tickdsl.records import RunPaths
    from tickdsl.records.events import RunStart
    from tickdsl.tensorboard import TensorBoardWriter

    writer: TensorBoardWriter | None = None

    def show(record: EventRecord) -> None:
        nonlocal writer
        if writer is None and isinstance(record.event, RunStart):
            writer = TensorBoardWriter(RunPaths(into or out / record.event.run).tensorboard)
        if writer is not None:
            writer.submit(record)

    try:
        yield show
    finally:
        if writer is not None:
            writer.close()
            if writer.error is not None:
                with ignore_closed_output():
                    echo(f"tickdsl: warning: stopped writing for TensorBoard: {writer.error}", file=sys.stderr)
