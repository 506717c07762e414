"""The run that results belong to."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import attrs

from tickdsl.records.paths import RunPaths
from tickdsl.results.standings import Standing, StandingKey, compute_standings
from tickdsl.results.state import RunState


def _absolute(path: Path) -> Path:
    return path.absolute()


def _absolute_run(paths: RunPaths) -> RunPaths:
    return RunPaths(paths.folder.absolute())


@attrs.frozen
class RunRecord:
    """What all results of a run refer to: its files, its state, and how its networks are built again.

    Paths are made absolute, so that the results can be used from another working folder.
    """

    paths: RunPaths = attrs.field(converter=_absolute_run)
    state: RunState
    store: Path = attrs.field(converter=_absolute)
    data: Path = attrs.field(converter=_absolute)
    allow_code: bool

    @functools.cached_property
    def standings(self) -> Mapping[StandingKey, Standing]:
        """The standings by (arm id, contestant, level), in plan order."""
        return compute_standings(self.state)

    def contestants(self, arm: str, level: int) -> list[str]:
        """The contestants with measurements at a level of an arm, in plan order."""
        return [name for owner, name, at in self.standings if (owner, at) == (arm, level)]
