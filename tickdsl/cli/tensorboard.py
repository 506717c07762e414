"""TensorBoard's files beside a run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tickdsl.cli.output import unheard

if TYPE_CHECKING:
    from tickdsl.records import Record


@contextmanager
def tensorboard(wanted: bool, out: Path, into: Path | None) -> Iterator[Callable[[Record], None]]:
    """What a run's events are told to, so that TensorBoard can show it; what goes wrong there is worth a warning.

    The run makes its folder in `out`, unless `into` names it.
    """
    if not wanted:
        yield lambda record: None
        return
    from tickdsl.records import RunPaths
    from tickdsl.records.events import RunStart
    from tickdsl.tensorboard import Board

    board: Board | None = None

    def show(record: Record) -> None:
        nonlocal board
        if board is None and isinstance(record.event, RunStart):
            board = Board(RunPaths(into or out / record.event.run).tb)
        if board is not None:
            board.listen(record)

    try:
        yield show
    finally:
        if board is not None:
            board.close()
            if board.trouble is not None:
                with unheard():
                    print(f"tickdsl: warning: nothing more for TensorBoard: {board.trouble}", file=sys.stderr)
