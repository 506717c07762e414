"""Where a run's figures go: a folder for each arm and seed, below it one for each rival, and a tag in it."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import attrs

from tickdsl.records.events import PlanResolved, StepInfo
from tickdsl.results.step_usage import first_uses
from tickdsl.tensorboard.event_file import folder_name


@attrs.frozen
class Series:
    """The figures of one contestant of one arm with one seed; those of the dense network are the ticket's level 0."""

    arm: str
    contestant: str
    seed: int
    folder: Path  # below the run's


@attrs.frozen
class TrainingCurve:
    """Where the course of a training goes: `round` and, where it only leads to another one, what it does there."""

    series: Series
    round: str
    part: str = ""

    def tag(self, figure: str) -> str:
        """The name of one of its curves; TensorBoard shows those of one beginning together."""
        return "/".join(filter(None, (self.part, figure, self.round)))


class TagLayout:
    """The places of everything that a resolved plan will bring."""

    def __init__(self, plan: PlanResolved) -> None:
        self._folders = _folders(plan)
        self._digits = max(2, len(str(max((m.level for m in plan.measurements), default=0))))
        self.levels: dict[Series, list[int]] = defaultdict(list)
        self.training_curves: dict[str, list[TrainingCurve]] = defaultdict(list)
        for m in plan.measurements:
            series = self.series(m.arm, m.contestant, m.seed)
            self.levels[series].append(m.level)
            self.training_curves[m.step].append(TrainingCurve(series, self._round(m.level)))
        uses = first_uses(plan.steps, plan.measurements, plan.contestants)
        for step in plan.steps:
            if step.operation == "train" and step.id not in self.training_curves and step.seed is not None:
                self._add_unmeasured(step, *uses.get(step.id, (0, "ticket")))

    def series(self, arm: str, contestant: str, seed: int) -> Series:
        series_contestant = "ticket" if contestant == "dense" else contestant
        folder = self._folders.get(arm, Path(folder_name(arm)))
        if series_contestant != "ticket":
            folder /= folder_name(series_contestant)
        return Series(arm, series_contestant, seed, folder / f"seed-{seed}")

    def _add_unmeasured(self, step: StepInfo, level: int, contestant: str) -> None:
        """A training that only leads to another, such as that of a part of the data."""
        for arm in step.arms:
            series = self.series(arm, contestant, step.seed or 0)
            self.training_curves[step.id].append(TrainingCurve(series, self._round(level), folder_name(step.label)))

    def _round(self, level: int) -> str:
        return f"round-{level:0{self._digits}}"


def _folders(plan: PlanResolved) -> dict[str, Path]:
    """A folder's name for each arm; of arms whose names would become equal, each with its number."""
    names = [folder_name(arm.id) for arm in plan.arms]
    return {
        arm.id: Path(name if names.count(name) == 1 else f"{name}-{number}")
        for number, (arm, name) in enumerate(zip(plan.arms, names, strict=True), start=1)
    }
