"""The training that a network took: epochs and images, over all trainings that led to it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

import attrs

from tickdsl.results.state import RunState, StepState

NetworkKey = tuple[str, str, int]  # arm id, contestant, level


@attrs.frozen
class Budget:
    """Epochs and images, means over seeds. An epoch on a part of the data counts fully; its images count one by one."""

    epochs: float
    images: float


def budgets(state: RunState) -> dict[NetworkKey, Budget]:
    """The budget of every measured network whose trainings are all known.

    For a ticket, it counts its own training and those that its structure and weights come from: the dense network, all
    earlier rounds and, for a student, the teacher. Controls start from initial weights, in a structure that they are
    given, so only their own training counts.
    """
    by_seed: dict[NetworkKey, list[Budget]] = {}
    for measurement in state.measurements:
        is_given = measurement.contestant not in ("ticket", "dense")
        budget = _budget_of(measurement.step, state.steps, is_given)
        if budget is not None:
            key = (measurement.arm, measurement.contestant, measurement.level)
            by_seed.setdefault(key, []).append(budget)
    return {
        key: Budget(statistics.fmean(b.epochs for b in values), statistics.fmean(b.images for b in values))
        for key, values in by_seed.items()
    }


def _budget_of(step: str, steps: Mapping[str, StepState], is_given: bool) -> Budget | None:
    """The budget of one step and, unless `is_given`, its ancestors; None if one of the trainings has no result.

    The result of a rewind point that a training stored on its way has no training of its own, so it adds nothing.
    """
    seen: set[str] = set()
    pending = [step]
    epochs = images = 0.0
    while pending:
        name = pending.pop()
        if name in seen or name not in steps:
            continue
        seen.add(name)
        found = steps[name]
        if not is_given:
            pending.extend(found.info.parents)
        if found.info.operation == "train":
            if not found.metrics:
                if found.status not in ("done", "stored"):
                    return None
            elif "images" not in found.metrics:
                return None  # made before images were counted
            else:
                epochs += float(found.metrics["passes"])
                images += float(found.metrics["images"])
    return Budget(epochs, images) if images else None
