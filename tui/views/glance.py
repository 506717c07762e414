"""All that a screen needs to know of one moment of a run."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import attrs

from tickdsl.records import Record
from tickdsl.records.events import Resource
from tickdsl.results import RunState
from tickdsl.results.figures import Figure, Key, figures
from tickdsl.results.verdict import Standing

from .outline import Outline


def by_contestant(found: Mapping[tuple[str, str, int], Standing]) -> dict[tuple[str, str], tuple[Standing, ...]]:
    """The standings of each contestant of each arm, in the order of the rounds."""
    rounds: dict[tuple[str, str], list[Standing]] = {}
    for (arm, contestant, _), standing in sorted(found.items(), key=lambda item: item[0][2]):
        rounds.setdefault((arm, contestant), []).append(standing)
    return {key: tuple(standings) for key, standings in rounds.items()}


@attrs.frozen
class Glance:
    """A state with what is worked out from it once for all screens.

    `status` is the state's, or what liveness made of it; `now` is in seconds since 1970. `places` maps an arm's id to
    its place in the plan; `rounds` maps (arm, contestant) to how it stands, round by round.
    """

    state: RunState
    status: str
    now: float
    standings: Mapping[tuple[str, str, int], Standing]
    rounds: Mapping[tuple[str, str], tuple[Standing, ...]]
    outline: Outline
    places: Mapping[str, int]
    notes: Sequence[Record] = ()
    load: Sequence[Resource] = ()
    words: str = ""  # the filter

    @functools.cached_property
    def asked(self) -> Mapping[Key, Mapping[str, Figure]]:
        """What `report` asked for beside accuracy."""
        return figures(self.state)

    @property
    def until(self) -> float:
        """Up to when time counts: now, or when the run ended or was last heard of."""
        if self.state.ended is not None:
            return self.state.ended
        return self.state.now if self.status.endswith("crashed") else max(self.now, self.state.now)

    def wants(self, text: str) -> bool:
        """Whether the filter lets `text` through: every word of it occurs, in any case."""
        found = text.casefold()
        return all(word in found for word in self.words.casefold().split())
