"""How many levels an arm has: the size of the families that verdicts are corrected over."""

from __future__ import annotations

from tickdsl.results.state import RunState


def planned_levels(state: RunState) -> dict[tuple[str, str], set[int]]:
    """The levels that were to be measured, by arm and contestant, whether or not they have been.

    Levels that an arm did not reach are left out if its sizes or masks ended it. If test results can end it, they
    count: otherwise, an arm that ends at a good level would have it judged as if there had never been others.
    """
    planned: dict[tuple[str, str], set[int]] = {}
    for measurement in state.measurements:
        step = state.steps.get(measurement.step)
        if measurement.level and (state.stops or step is None or step.status != "skipped"):
            planned.setdefault((measurement.arm, measurement.contestant), set()).add(measurement.level)
    return planned
