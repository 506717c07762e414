"""Maps the values of a run to TensorBoard folders and tags: a folder per arm, control and seed."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import attrs

from tickdsl.records.events import PlanResolved, StepInfo
from tickdsl.results.step_usage import first_uses
from tickdsl.tensorboard.event_file import folder_name


@attrs.frozen
class Series:
    """The values of one contestant of one arm with one seed; the dense network is level 0 of the ticket."""

    arm: str
    contestant: str
    seed: int
    folder: Path  # relative to the TensorBoard folder of the run


@attrs.frozen
class TrainingCurve:
    """Where the epochs of a training are written: its round, and `part` if it only prepares another training."""

    series: Series
    round: str
    part: str = ""

    def tag(self, metric: str) -> str:
        """The tag of one metric of the training; TensorBoard groups tags by their prefix."""
        return "/".join(filter(None, (self.part, metric, self.round)))


class TagLayout:
    """The folders and tags of all trainings and measurements of a resolved plan."""

    def __init__(self, plan: PlanResolved) -> None:
        self._folders = _folders(plan)
        self._digits = max(2, len(str(max((m.level for m in plan.measurements), default=0))))
        self.levels: dict[Series, list[int]] = defaultdict(list)
        self.training_curves: dict[str, list[TrainingCurve]] = defaultdict(list)
        for m in plan.measurements:
            series = self.series(m.arm, m.contestant, m.seed)
            self.levels[series].append(m.level)
            self.training_curves[m.step].append(TrainingCurve(series, self._round(m.level)))
        self._uses: Counter[TrainingCurve] = Counter()
        uses = first_uses(plan.steps, plan.measurements, plan.contestants)
        for step in plan.steps:
            if step.operation == "train" and step.id not in self.training_curves and step.seed is not None:
                self._add_unmeasured(step, *uses.get(step.id, (0, "ticket")))

    def series(self, arm: str, contestant: str, seed: int) -> Series:
        """The series of a contestant, with its folder."""
        series_contestant = "ticket" if contestant == "dense" else contestant
        folder = self._folders.get(arm, Path(folder_name(arm)))
        if series_contestant != "ticket":
            folder /= folder_name(series_contestant)
        return Series(arm, series_contestant, seed, folder / f"seed-{seed}")

    def _add_unmeasured(self, step: StepInfo, level: int, contestant: str) -> None:
        """Add a training that only prepares another, such as training on a part of the data."""
        for arm in step.arms:
            series = self.series(arm, contestant, step.seed or 0)
            curve = TrainingCurve(series, self._round(level), folder_name(step.label))
            self._uses[curve] += 1
            if (number := self._uses[curve]) > 1:  # a twin, e.g. for a barrier
                curve = attrs.evolve(curve, part=f"{curve.part}-{number}")
            self.training_curves[step.id].append(curve)

    def _round(self, level: int) -> str:
        return f"round-{level:0{self._digits}}"


def _folders(plan: PlanResolved) -> dict[str, Path]:
    """A folder name for each arm, numbered if the names of several arms become equal."""
    names = [folder_name(arm.id) for arm in plan.arms]
    return {
        arm.id: Path(name if names.count(name) == 1 else f"{name}-{number}")
        for number, (arm, name) in enumerate(zip(plan.arms, names, strict=True), start=1)
    }
