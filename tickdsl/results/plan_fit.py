"""Which events fit the plan of their run: others come from a damaged or foreign file, and are skipped."""

from __future__ import annotations

import attrs

from tickdsl.records.events import Layers, Measure, MeasurementInfo, Metric, PlanResolved

#: Contestants of every run.
_ALWAYS = ("dense", "ticket")
#: Differences of larger scores than these could not be squared.
_MAX_SCORE = 1e100


def fitting_plan(plan: PlanResolved) -> tuple[PlanResolved, int]:
    """The plan without what its arms, seeds and steps do not have, and how much that is.

    It may be measurements, links of steps, and tasks, also those without a metric.
    """
    arms, steps = {arm.id for arm in plan.arms}, {step.id for step in plan.steps}
    contestants = {*plan.contestants, *_ALWAYS}

    def fits(m: MeasurementInfo) -> bool:
        known = m.arm in arms and m.contestant in contestants and m.seed in plan.seeds
        return known and m.level >= 0 and m.step in steps

    # The arms of a step may be others than those of the run, which can be told to measure only some arms.
    kept = attrs.evolve(
        plan,
        steps=tuple(
            attrs.evolve(step, parents=tuple(parent for parent in step.parents if parent in steps))
            for step in plan.steps
        ),
        measurements=tuple(m for m in plan.measurements if fits(m)),
        asked=tuple(m for m in plan.asked if fits(m)),
        tasks={arm: task for arm, task in plan.tasks.items() if arm in arms and task.metrics},
    )
    skipped = _count_parts(plan) - _count_parts(kept)
    return (kept, skipped) if skipped else (plan, 0)


def _count_parts(plan: PlanResolved) -> int:
    return len(plan.measurements) + len(plan.asked) + len(plan.tasks) + sum(len(step.parents) for step in plan.steps)


def has_possible_values(event: Metric | Measure | Layers) -> bool:
    """Whether the values of a measurement can have been measured."""
    if not isinstance(event, Metric):
        return True
    shares = (event.accuracy, event.best_accuracy, event.sparsity, event.filters, *event.units.values())
    sizes = (event.params, event.macs, event.seconds)
    scores = (event.score, event.best_score, event.loss, *event.figures.values())
    return (
        all(s is None or 0 <= s <= 1 for s in shares)
        and all(s is None or s >= 0 for s in sizes)
        and not any(isinstance(s, int | float) and abs(s) > _MAX_SCORE for s in scores)
    )
