"""What each step of a run is for: the first round that it serves, and whose."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from tickdsl.records.events import MeasurementInfo, StepInfo

FirstUse = tuple[int, str]  # level, contestant


def first_uses(
    steps: Sequence[StepInfo], measurements: Iterable[MeasurementInfo], contestants: Sequence[str]
) -> dict[str, FirstUse]:
    """For each step the lowest level that it or a step after it is measured at, and the contestant there: dense
    before the ticket before rivals. Steps that no measurement rests on are left out.

    `steps` stand behind their parents, as in `plan.resolved`.
    """
    rank = {name: index for index, name in enumerate(dict.fromkeys(("dense", "ticket", *contestants)))}
    uses: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for m in measurements:
        uses[m.step].append((m.level, rank.get(m.contestant, len(rank)), m.contestant))
    result: dict[str, FirstUse] = {}
    for step in reversed(steps):
        if step.id in uses:
            use = min(uses[step.id])
            result[step.id] = (use[0], use[2])
            for parent in step.parents:
                uses[parent].append(use)
    return result
