"""Where arms that can end early are expected to end, as far as other seeds of the same arm tell."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import Protocol

from tickdsl.records.events import MeasurementInfo, StepInfo

ArmSeed = tuple[str, int]


class KnownStep(Protocol):
    """What is known of a step."""

    @property
    def info(self) -> StepInfo: ...

    @property
    def status(self) -> str: ...


def unlikely_steps(known: Mapping[str, KnownStep], measurements: Iterable[MeasurementInfo]) -> frozenset[str]:
    """The steps that will probably be skipped: those that only later rounds need than the arm's ended seeds reached.

    A seed is expected to get as far as the mean of the ended seeds of its arm, rounded up, and no less than it has got.
    """
    levels: dict[ArmSeed, dict[int, list[KnownStep]]] = {}
    measured = list(measurements)
    for m in measured:
        if m.step in known:
            levels.setdefault((m.arm, m.seed), {}).setdefault(m.level, []).append(known[m.step])
    reached: dict[str, list[int]] = {}
    for (arm, _), by_level in levels.items():
        if _has_ended(by_level):
            reached.setdefault(arm, []).append(_last(by_level, ("done", "stored", "failed")))
    if not reached:
        return frozenset()
    likely = []
    for (arm, _), by_level in levels.items():
        last = max(by_level)
        if arm in reached and not _has_ended(by_level):
            # The ticket that has just been measured may still lead to a further round.
            last = max(-int(-statistics.fmean(reached[arm]) // 1), _last(by_level, ("done", "stored", "running")))
        likely += [step.info.id for level, steps in by_level.items() if level <= last for step in steps]
    needed = _with_ancestors(likely, known)
    return frozenset(_with_ancestors({m.step for m in measured} - needed, known) - needed)


def ends_are_known(steps: Iterable[KnownStep]) -> bool:
    """Whether the time left is an estimate: some seed has ended early, so that one knows where arms end."""
    return any(step.status == "skipped" for step in steps)


def _has_ended(by_level: Mapping[int, list[KnownStep]]) -> bool:
    return any(step.status == "skipped" for steps in by_level.values() for step in steps)


def _last(by_level: Mapping[int, list[KnownStep]], statuses: tuple[str, ...]) -> int:
    return max((level for level, steps in by_level.items() if any(s.status in statuses for s in steps)), default=0)


def _with_ancestors(steps: Iterable[str], known: Mapping[str, KnownStep]) -> set[str]:
    found: set[str] = set()
    pending = list(steps)
    while pending:
        name = pending.pop()
        if name not in found and name in known:
            found.add(name)
            pending += known[name].info.parents
    return found
