"""Groups the steps of a run by arm, seed and round."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from tickdsl.records.events import StepInfo
from tickdsl.results import RunState
from tickdsl.results.step_labels import readable_label

TreePath = tuple[str | int, ...]  # (arm,) (arm, seed) (arm, seed, round) (arm, seed, round, step)


@attrs.frozen
class StepOutline:
    """The steps by arm, seed and round; `seeds` and `levels` map each step to its seed and round.

    `contestants` maps each measured step to its contestant.

    A step without a seed inherits the seed of its first parent that has one, else 0; one that aligns something to the
    network of a seed belongs to that seed. A step belongs to the first round whose measurement depends on it, else to
    the last round.
    """

    arms: Mapping[str, Mapping[int, Mapping[int, tuple[str, ...]]]]
    seeds: Mapping[str, int]
    levels: Mapping[str, int]
    contestants: Mapping[str, str] = attrs.field(factory=dict)

    def paths(self, step: str) -> list[TreePath]:
        """The paths of a step, one for each arm that needs it."""
        seed, level = self.seeds.get(step, 0), self.levels.get(step, 0)
        return [
            (arm, seed, level, step) for arm, seeds in self.arms.items() if step in seeds.get(seed, {}).get(level, ())
        ]

    def label(self, info: StepInfo) -> str:
        """The label of a step in plain words."""
        return readable_label(info.label, self.contestants.get(info.id, ""))

    def steps(self, path: TreePath) -> Iterable[str]:
        """The steps below a path."""
        if len(path) == 4:
            return [str(path[3])]
        seeds = self.arms.get(str(path[0]), {})
        return (
            step
            for seed, levels in seeds.items()
            if len(path) < 2 or seed == path[1]
            for level, steps in levels.items()
            if len(path) < 3 or level == path[2]
            for step in steps
        )


def build_outline(state: RunState) -> StepOutline:
    """Build the outline of all steps in `state`."""
    seeds: dict[str, int] = {}
    for name, step in state.steps.items():
        inherited = (seeds[parent] for parent in _inheriting_order(step.info) if parent in seeds)
        seeds[name] = step.info.seed if step.info.seed is not None else next(inherited, 0)
    levels: dict[str, int] = {}
    contestants: dict[str, str] = {}
    for measurement in (*state.measurements, *state.extra_measurements):
        contestants.setdefault(measurement.step, measurement.contestant)
        levels[measurement.step] = min(measurement.level, levels.get(measurement.step, measurement.level))
    for name, step in reversed(list(state.steps.items())):  # parents come before their children
        if name in levels:
            for parent in step.info.parents:
                levels[parent] = min(levels[name], levels.get(parent, levels[name]))
    last = max(levels.values(), default=0)
    arms: dict[str, dict[int, dict[int, list[str]]]] = {arm.id: {} for arm in state.arms}
    for name, step in state.steps.items():
        level = levels.setdefault(name, last)
        for arm in step.info.arms:
            arms.setdefault(arm, {}).setdefault(seeds[name], {}).setdefault(level, []).append(name)
    return StepOutline(
        {
            arm: {
                seed: {level: tuple(steps) for level, steps in sorted(by_level.items())}
                for seed, by_level in sorted(by_seed.items())
            }
            for arm, by_seed in arms.items()
        },
        seeds,
        levels,
        contestants,
    )


def _inheriting_order(info: StepInfo) -> Sequence[str]:
    """The parents of a step, first the network of its own seed, if it has one of another seed's beside it."""
    own = [parent for parent, role in zip(info.parents, info.roles, strict=False) if role == "own"]
    return (*own, *info.parents)
