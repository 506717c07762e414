"""What every tracker has to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

#: What a series of values is drawn over.
Axis = Literal["round", "epoch"]


class Backend(Protocol):
    """A tracker; any exception ends its use, and the run goes on."""

    def start(self, name: str, settings: Mapping[str, Any], folder: Path) -> None:
        """Begin a run of the tracker with the name and the settings of one of tickdsl; its files are in `folder`."""

    def log(self, values: Mapping[str, float], axis: Axis, place: float, t: float) -> None:
        """Record values at a place on their axis; `t` is the time in seconds since 1970."""

    def finish(self, succeeded: bool, texts: Mapping[str, str], files: Sequence[Path], figure: Path | None) -> None:
        """End the run with what it has found in words, its files, and a figure."""
