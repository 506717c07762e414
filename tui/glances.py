"""Glances of a feed: what is costly to work out is kept until its events change it."""

from __future__ import annotations

from tickdsl.records import Process
from tickdsl.results.liveness import liveness
from tickdsl.results.state import ENDED
from tickdsl.results.verdict import standings

from .feed import Feed
from .views.glance import Glance, by_contestant
from .views.outline import Outline, outline


class Glances:
    """Makes glances. `lives` says whether there is an engine whose death would be news: a recording has none."""

    def __init__(self, feed: Feed, engine: Process | None, lives: bool = True) -> None:
        self._feed = feed
        self._engine = engine
        self._lives = lives
        self._outlined, self._outline = -1, Outline({}, {}, {})
        self._judged = -1
        self._standings = standings(feed.state)
        self._rounds = by_contestant(self._standings)

    def status(self, now: float) -> str:
        """What the run is doing, or what has become of it. A state read halfway says nothing about the engine."""
        state = self._feed.state
        if not self._lives or self._feed.behind or state.status in ENDED:
            return state.status
        return liveness(state, now, self._engine)

    def glance(self, now: float, words: str) -> Glance:
        """The feed as it is now, looked at through the filter `words`."""
        feed, state = self._feed, self._feed.state
        if self._outlined != feed.planned or (state.steps.keys() - self._outline.seeds.keys()):
            self._outlined, self._outline = feed.planned, outline(state)
        if self._judged != feed.measured:
            self._judged, self._standings = feed.measured, standings(state)
            self._rounds = by_contestant(self._standings)
        return Glance(
            state=state,
            status=self.status(now),
            now=now,
            standings=self._standings,
            rounds=self._rounds,
            outline=self._outline,
            places={arm.id: place for place, arm in enumerate(state.arms)},
            notes=tuple(feed.notes),
            load=tuple(feed.load),
            words=words,
        )
