"""What each step of a run is for: the first round that it serves, and whose."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from tickdsl.records.events import MeasurementInfo, StepInfo

Place = tuple[int, str]  # level, contestant


def served(
    steps: Sequence[StepInfo], measurements: Iterable[MeasurementInfo], contestants: Sequence[str]
) -> dict[str, Place]:
    """For each step the lowest level that it or a step after it is measured at, and the contestant there: dense
    before the ticket before rivals. Steps that no measurement rests on are left out.

    `steps` stand behind their parents, as in `plan.resolved`.
    """
    order = {name: place for place, name in enumerate(dict.fromkeys(("dense", "ticket", *contestants)))}
    found: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for m in measurements:
        found[m.step].append((m.level, order.get(m.contestant, len(order)), m.contestant))
    first: dict[str, Place] = {}
    for step in reversed(steps):
        if step.id in found:
            serves = min(found[step.id])
            first[step.id] = (serves[0], serves[2])
            for parent in step.parents:
                found[parent].append(serves)
    return first
