"""Hand the text of a checked plan over to the engine, so that what was checked is what runs.

The plan may be edited before the engine has read it, or be a pipe that can be read only once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tickdsl.errors import TickdslError
from tickdsl.lang.reading.include import SourceReader
from tickdsl.lang.syntax import Source
from tickdsl.records.files import write_atomically
from tickdsl.records.paths import RunPaths


def write_sources(paths: RunPaths, sources: Iterable[Source]) -> None:
    """Write the texts of a plan and its includes into the folder of its run."""
    write_atomically(paths.sources, json.dumps({source.path: source.text for source in sources}).encode())


def source_reader(folder: Path | None) -> SourceReader | None:
    """Reads plans as `write_sources` wrote them into the folder of a run; None if they are still in their files."""
    if folder is None or not RunPaths(folder).sources.exists():
        return None
    texts: dict[str, str] = json.loads(RunPaths(folder).sources.read_text())

    def read(path: str | Path) -> Source:
        if str(path) not in texts:
            raise TickdslError(f"{path}: was not part of the plan when it was checked", "run the plan again")
        return Source(str(path), texts[str(path)])

    return read
