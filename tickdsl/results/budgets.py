"""The training that a network took: epochs, images and time, over all trainings that led to it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import attrs

from tickdsl.results.state import MetricKey, RunState, StepState
from tickdsl.results.state_cache import kept_per_state

NetworkKey = tuple[str, str, int]  # arm id, contestant, level


@attrs.frozen
class Budget:
    """Epochs, images, and the wall time of the trainings in seconds, None if one of them is not known.

    An epoch on a part of the data counts fully; its images count one by one. Of stored trainings, the time is that of
    the machine that they ran on, and of stacked ones an equal share.
    """

    epochs: float
    images: float
    seconds: float | None = None


@kept_per_state
def budgets(state: RunState) -> Mapping[NetworkKey, Budget]:
    """The budget of every measured network whose trainings are all known: means over the seeds."""
    by_network: dict[NetworkKey, list[Budget]] = {}
    for (arm, contestant, level, _), budget in seed_budgets(state).items():
        by_network.setdefault((arm, contestant, level), []).append(budget)
    return {key: _mean(values) for key, values in by_network.items()}


def _mean(values: Sequence[Budget]) -> Budget:
    seconds = [budget.seconds for budget in values if budget.seconds is not None]
    return Budget(
        statistics.fmean(budget.epochs for budget in values),
        statistics.fmean(budget.images for budget in values),
        statistics.fmean(seconds) if len(seconds) == len(values) else None,
    )


@kept_per_state
def seed_budgets(state: RunState) -> Mapping[MetricKey, Budget]:
    """The budget of every measured network, by arm, contestant, level and seed.

    For a ticket, it counts its own training and those that its structure and weights come from: the dense network, all
    earlier rounds and, for a student, the teacher. Controls start from initial weights, in a structure that they are
    given, so only their own training counts.
    """
    found: dict[MetricKey, Budget] = {}
    for measurement in state.measurements:
        is_given = measurement.contestant not in ("ticket", "dense")
        budget = _budget_of(measurement.step, state.steps, is_given)
        if budget is not None:
            found[measurement.arm, measurement.contestant, measurement.level, measurement.seed] = budget
    return found


def _budget_of(step: str, steps: Mapping[str, StepState], is_given: bool) -> Budget | None:
    """The budget of one step and, unless `is_given`, its ancestors; None if one of the trainings has no result.

    The result of a rewind point that a training stored on its way has no training of its own, so it adds nothing.
    """
    seen: set[str] = set()
    pending = [step]
    epochs = images = 0.0
    seconds: float | None = 0.0
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
                time = found.metrics.get("train_time")
                seconds = None if time is None or seconds is None else seconds + float(time)
    return Budget(epochs, images, seconds) if images else None
