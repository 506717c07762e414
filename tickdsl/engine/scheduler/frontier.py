"""Which steps are wanted now: measurements of confirmed levels, and what they still need.

A level is confirmed when nothing ended its arm before: `until` was not reached, no `stop when` held. So a plan's
dynamic end needs no dynamic graph, and what is run does not depend on the order in which results arrive. Each
result costs what hangs on it, not the size of the study.

Of the steps that can begin, the one comes first behind which the longest chain of work waits: workers are idle at the
end of a study for as long as its last chain takes alone. Steps that measure times wait until nothing else is being
done, and nothing begins beside them.
"""

from __future__ import annotations

import graphlib
import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tickdsl.plan.asked import UNDISTURBED
from tickdsl.plan.lower import Level, Measurement, Study

Metrics = Mapping[str, Any]
Pair = tuple[str, int]
#: Slack for shares that were computed in floating point.
_EPSILON = 1e-9


class Frontier:
    """The steps to do, handed out by `take`, parents first.

    `metrics(key)` gives those of a step whose result is there, None for the others; `work(key)` what a step costs, in
    any unit. The owner tells of results by `finished` and of failures by `failed`, and collects what became known by
    `measured`.
    """

    def __init__(
        self, study: Study, metrics: Callable[[str], Metrics | None], work: Callable[[str], float] = lambda key: 1.0
    ) -> None:
        self._study = study
        self._graph = study.graph
        self._reads = {key: _reads(study, key) for key in study.graph}
        self._readers: dict[str, list[str]] = defaultdict(list)
        for key, read in self._reads.items():
            for each in read:
                self._readers[each].append(key)
        self._metrics = metrics
        ahead = _chains(study, self._readers, work)
        self._keys: list[str] = sorted(study.graph, key=lambda key: -ahead[key])
        self._order = {key: place for place, key in enumerate(self._keys)}
        self._levels: dict[Pair, list[Level]] = defaultdict(list)
        for level in study.levels:
            self._levels[level.arm, level.seed].append(level)
        self._at: dict[tuple[Pair, int, bool], list[Measurement]] = defaultdict(list)
        for m in study.measurements:
            self._at[(m.arm, m.seed), m.level, m.final_only].append(m)

        self._needed: set[str] = set()
        self._parents_left: dict[str, int] = {}
        self._ready: list[int] = []
        self._lonely: list[int] = []  # those of them that want to be undisturbed
        self._taken: set[str] = set()
        self._broken: set[str] = set()
        self._expected: dict[str, list[Measurement]] = {}
        self._measured: list[Measurement] = []
        self._undecided: dict[str, list[tuple[Pair, int]]] = defaultdict(list)
        for pair in dict.fromkeys((m.arm, m.seed) for m in study.measurements):
            self._expect(self._at[pair, 0, False])
            self._enter(pair, 0)

    @property
    def pending(self) -> bool:
        """Whether anything is left to do, or being done."""
        return bool(self._needed)

    def take(self) -> str | None:
        """The next step whose parents are there; None where all of those are being done."""
        if any(self._wants_rest(key) for key in self._taken):
            return None
        heaps = (self._ready,) if self._taken else (self._ready, self._lonely)
        while filled := [heap for heap in heaps if heap]:
            key = self._keys[heapq.heappop(min(filled))]
            if self._is_open(key):
                self._taken.add(key)
                return key
        return None

    def take_also(self, fits: Callable[[str], bool], most: int) -> list[str]:
        """Up to `most` further steps that could be taken now, of those that fit; none that wants to be undisturbed."""
        found: list[str] = []
        if most < 1 or any(self._wants_rest(key) for key in self._taken):
            return found
        for place in sorted(set(self._ready)):
            key = self._keys[place]
            if len(found) < most and self._is_open(key) and fits(key):
                self._taken.add(key)
                found.append(key)
        return found

    def _is_open(self, key: str) -> bool:
        """Whether a step in the queue is still to be begun."""
        open_still = key in self._needed and key not in self._taken and not self._parents_left[key]
        return open_still and not self._comes_along(key)

    def put_back(self, key: str) -> None:
        """A step that was taken is to be done after all."""
        self._taken.discard(key)
        self._offer(key)

    def reads(self, key: str) -> tuple[str, ...]:
        """The steps whose results a step reads."""
        return self._reads[key]

    def missing(self, key: str, gone: Iterable[str]) -> None:
        """A step that was taken cannot begin: results that it reads were there and are not any more."""
        self._taken.discard(key)
        for each in gone:
            for reader in self._readers[each]:
                if reader in self._needed and reader not in self._taken:
                    self._parents_left[reader] += 1
            self._need(each)

    def finished(self, key: str) -> None:
        """The result of a step is there."""
        self._taken.discard(key)
        if key in self._needed:
            self._needed.discard(key)
            for child in self._readers[key]:
                if child in self._needed:
                    self._parents_left[child] -= 1
                    self._offer(child)
        for point in self._graph.nodes[key]["prefixes"].values():
            self._offer(point)
        self._measured += self._expected.pop(key, [])
        for pair, index in self._undecided.pop(key, []):
            self._decide(pair, index)

    def failed(self, key: str) -> None:
        """A step failed: what rests on it, and what only that would have needed, is not wanted any more."""
        self._taken.discard(key)
        pile = [key]
        while pile:
            at = pile.pop()
            if at not in self._broken and self._metrics(at) is None:
                self._broken.add(at)
                pile += self._readers[at]
        self._needed.clear()
        self._ready.clear()
        self._lonely.clear()
        for target in self._expected:
            self._need(target)

    def measured(self) -> list[Measurement]:
        """The measurements of confirmed levels whose result came in since the last call."""
        found, self._measured = self._measured, []
        return found

    # -- levels

    def _enter(self, pair: Pair, index: int) -> None:
        """The level of that index is confirmed, if there is one."""
        if index < len(self._levels[pair]):
            self._expect(self._at[pair, self._levels[pair][index].level, False])
            self._decide(pair, index)

    def _decide(self, pair: Pair, index: int) -> None:
        """Whether a confirmed level is the last one, as soon as that is known."""
        levels = self._levels[pair]
        over = True if index == len(levels) - 1 else self._over(levels[index])
        if isinstance(over, str):
            self._undecided[over].append((pair, index))
        elif over:
            self._expect(self._at[pair, levels[index].level, True])
        else:
            self._enter(pair, index + 1)

    def _over(self, level: Level) -> bool | str:
        """Whether the arm ends after this level, or the step whose result decides that."""
        if level.until is not None:
            left = self._metrics(level.structure)
            if left is None:
                return level.structure
            gone = left["sparsity"] if level.unit == "weights" else 1 - left[level.unit]
            if gone >= level.until - _EPSILON:
                return True
        stops = [*self._study.plan.stops, *([level.ends] if level.ends else [])]
        if stops:
            measured = self._metrics(level.ticket)
            if measured is None:
                return level.ticket
            return any(stop.holds(watched(measured, stop.metric)) for stop in stops)
        return False

    def _expect(self, measurements: Iterable[Measurement]) -> None:
        for m in measurements:
            if self._metrics(m.step) is not None:
                self._measured.append(m)
            else:
                self._expected.setdefault(m.step, []).append(m)
                self._need(m.step)

    # -- steps

    def _need(self, target: str) -> None:
        """A step is wanted, with all that it rests on and that is not there."""
        if target in self._broken:
            return
        pile = [target]
        while pile:
            key = pile.pop()
            if key in self._needed or self._metrics(key) is not None:
                continue
            self._needed.add(key)
            parents = [parent for parent in self._reads[key] if self._metrics(parent) is None]
            self._parents_left[key] = len(parents)
            self._offer(key)
            pile += parents

    def _offer(self, key: str) -> None:
        if key in self._needed and not self._parents_left[key]:
            heapq.heappush(self._lonely if self._wants_rest(key) else self._ready, self._order[key])

    def _wants_rest(self, key: str) -> bool:
        return self._study.step(key).operation in UNDISTURBED

    def _comes_along(self, key: str) -> bool:
        """Whether a dense training that is wanted too leaves this rewinding point on its way."""
        return self._graph.nodes[key].get("prefix_of") in self._needed


def _reads(study: Study, key: str) -> tuple[str, ...]:
    """A step's parents, and the structures of the weights that it slices or learns from."""
    parents = study.step(key).parents
    read = [parents[role] for role in ("weights", "teacher", "head") if role in parents]
    sources = [study.step(each).parents.get("structure") for each in read]
    return tuple(dict.fromkeys([*parents.values(), *(source for source in sources if source)]))


def _chains(study: Study, readers: Mapping[str, list[str]], work: Callable[[str], float]) -> dict[str, float]:
    """The work of each step with the longest chain of steps that wait for it.

    What reads a rewinding point waits for the training that leaves it on its way.
    """
    nodes = study.graph.nodes
    waiting = {key: [*readers.get(key, ()), *nodes[key]["prefixes"].values()] for key in study.graph}
    ahead: dict[str, float] = {}
    for key in graphlib.TopologicalSorter(waiting).static_order():
        own = 0.0 if nodes[key].get("prefix_of") else work(key)
        ahead[key] = own + max((ahead[each] for each in waiting[key]), default=0.0)
    return ahead


def watched(metrics: Metrics, name: str) -> float:
    """A metric by its name in the language."""
    return float(metrics["macs" if name == "flops" else name])
