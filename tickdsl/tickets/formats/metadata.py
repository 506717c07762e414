"""What a file that runs without tickdsl says about itself: keys and texts, the same in every format."""

from __future__ import annotations

import json
from typing import Any

import attrs

from tickdsl.tickets.formats.file_interface import FileInterface
from tickdsl.tickets.ticket import Ticket

#: The version of these keys; a higher one means that keys changed their meaning.
VERSION = "1"


def file_metadata(ticket: Ticket, interface: FileInterface, *, raw: bool = False) -> dict[str, str]:
    """The metadata of an exported ticket. Values are JSON, except for those of `plan` and `network`, which are text.

    raw: whether the file leaves the normalisation to its user.
    """
    values: dict[str, Any] = {
        "tickdsl": VERSION,
        "classes": list(ticket.classes),
        "preprocessing": {**ticket.preprocessing.as_json(), "inside": not raw},
        "task": ticket.task,
        "part": interface.part or None,
        "inputs": [attrs.asdict(known) for known in interface.inputs],
        "outputs": [attrs.asdict(output) for output in interface.outputs],
        "accuracy": ticket.metrics.get("accuracy"),
        "metric": ticket.metrics.get("metric"),
        "score": ticket.metrics.get("score"),
        "interval": ticket.metrics.get("interval"),
        "metrics": {name: value for name, value in ticket.metrics.items() if name != "correct"},
        "origin": attrs.asdict(ticket.origin),
        "versions": dict(ticket.versions),
    }
    known = {key: json.dumps(value, default=float) for key, value in values.items() if value is not None}
    return {"network": ticket.source.title, "plan": ticket.plan, **known}
