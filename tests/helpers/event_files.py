"""What the event files of a run say. For tests."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event


def steps_by_tag(folder: Path) -> dict[str, dict[str, list[int]]]:
    """The steps of all values below a folder for TensorBoard: folder -> tag -> steps."""
    found: dict[str, dict[str, list[int]]] = {}
    for path in folder.rglob("events.*"):
        series = found[path.parent.relative_to(folder).as_posix()] = defaultdict(list)
        content = path.read_bytes()
        while content:
            length = int.from_bytes(content[:8], "little")
            event = Event.FromString(content[12 : 12 + length])
            for value in event.summary.value:
                series[value.tag].append(event.step)
            content = content[16 + length :]
    return found
