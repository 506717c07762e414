"""Which steps are wanted now: measurements of confirmed levels, and what they still need.

A level is confirmed when nothing ended its arm before: `until` was not reached, no `stop when` held. So a plan's
dynamic end needs no dynamic graph, and what is run does not depend on the order in which results arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tickdsl.plan.lower import Level, Measurement, Study

Metrics = Mapping[str, Any]
#: Slack for shares that were computed in floating point.
_EPSILON = 1e-9


class Frontier:
    """Recomputed after each result; `metrics(key)` gives those of a finished step, None for the others."""

    def __init__(self, study: Study, metrics: Callable[[str], Metrics | None]) -> None:
        self.study = study
        self.metrics = metrics
        self._levels: dict[tuple[str, int], list[Level]] = {}
        for level in study.levels:
            self._levels.setdefault((level.arm, level.seed), []).append(level)
        self._order = {key: place for place, key in enumerate(study.graph)}

    def ends(self) -> dict[tuple[str, int], tuple[int, bool]]:
        """For each arm and seed: (the last confirmed level, whether it is known to be the very last)."""
        return {pair: self._end(levels) for pair, levels in self._levels.items()}

    def _end(self, levels: list[Level]) -> tuple[int, bool]:
        for level in levels:
            if level is levels[-1]:
                return level.level, True
            over = self._over(level)
            if over is None:
                return level.level, False
            if over:
                return level.level, True
        return 0, True

    def _over(self, level: Level) -> bool | None:
        """Whether the arm ends after this level; None while that is not known."""
        if level.until is not None:
            left = self.metrics(level.structure)
            if left is None:
                return None
            gone = left["sparsity"] if level.unit == "weights" else 1 - left["filters"]
            if gone >= level.until - _EPSILON:
                return True
        if self.study.plan.stops:
            measured = self.metrics(level.ticket)
            if measured is None:
                return None
            return any(stop.holds(watched(measured, stop.metric)) for stop in self.study.plan.stops)
        return False

    def live(self) -> list[Measurement]:
        """The measurements that belong to the result, as far as is known."""
        ends = self.ends()
        found = []
        for m in self.study.measurements:
            last, known = ends.get((m.arm, m.seed), (0, True))
            if m.level <= last and (not m.final_only or (known and m.level == last)):
                found.append(m)
        return found

    def wanted(self, failed: set[str]) -> list[str]:
        """Steps to do, parents first; what rests on a failed step is left out."""
        targets = {m.step for m in self.live()}
        for pair, (last, known) in self.ends().items():
            if not known:
                level = next(item for item in self._levels[pair] if item.level == last)
                targets |= {level.structure} if level.until is not None else set()
                targets |= {level.ticket} if self.study.plan.stops else set()
        needed: set[str] = set()
        broken: dict[str, bool] = {}
        for target in targets:
            if not self._broken(target, failed, broken):
                self._collect(target, needed)
        return sorted(needed, key=self._order.__getitem__)

    def _collect(self, key: str, needed: set[str]) -> None:
        pile = [key]
        while pile:
            at = pile.pop()
            if at in needed or self.metrics(at) is not None:
                continue
            needed.add(at)
            pile += self.study.graph.predecessors(at)

    def _broken(self, key: str, failed: set[str], known: dict[str, bool]) -> bool:
        """Whether a step cannot be done any more because one that it rests on failed."""
        pile = [key]
        while pile:
            at = pile[-1]
            if at in known:
                pile.pop()
            elif at in failed or self.metrics(at) is not None:
                known[at] = at in failed
            else:
                parents = list(self.study.graph.predecessors(at))
                open_parents = [p for p in parents if p not in known]
                if open_parents:
                    pile += open_parents
                else:
                    known[at] = any(known[p] for p in parents)
        return known[key]


def watched(metrics: Metrics, name: str) -> float:
    """A metric by its name in the language."""
    return float(metrics["macs" if name == "flops" else name])
