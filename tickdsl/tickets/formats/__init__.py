"""The formats that a ticket can be exported to, by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs

from tickdsl.tickets.ticket import Ticket


@attrs.frozen
class ExportOptions:
    """raw: leave the normalisation out of the network. sparse: store masked weights compressed. int8: quantise."""

    raw: bool = False
    sparse: bool = False
    int8: bool = False


@attrs.frozen
class ExportFormat:
    """A format.

    write: writes a ticket to a new file or folder; it raises TickdslError if it cannot. runner: the script that runs
    the written file in a fresh process, `python RUNNER REQUEST.json` (see `tickdsl.tickets.verification`). max_output:
    the largest difference of outputs that counts as equal; 0 means the same bits. max_accuracy: that of accuracies, as
    a share. options: the options of ExportOptions that it takes.
    """

    name: str
    suffix: str
    summary: str
    write: Callable[[Ticket, Path, ExportOptions], None]
    runner: Path | None
    max_output: float = 0.0
    max_accuracy: float = 0.0
    options: frozenset[str] = frozenset()
