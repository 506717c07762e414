"""Which round and contestant each step of a run is first needed for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from tickdsl.records.events import MeasurementInfo, StepInfo

FirstUse = tuple[int, str]  # level, contestant


def first_uses(
    steps: Sequence[StepInfo], measurements: Iterable[MeasurementInfo], contestants: Sequence[str]
) -> dict[str, FirstUse]:
    """Map each step id to the lowest level at which it or a descendant is measured, and the contestant measured there.

    At equal levels, dense precedes the ticket and the ticket precedes the controls. Steps that no measurement depends
    on are left out. `steps` must be in topological order, as in `plan.resolved`.
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
