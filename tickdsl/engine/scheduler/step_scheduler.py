"""Schedule steps: which steps are needed, and in which order they run.

Needed are the measurements of confirmed levels and the steps that these depend on. A level is confirmed if nothing has
ended its arm before: `until` was not reached, and no `stop when` was true. So arms can end early although the graph is
static, and the steps that run do not depend on the order in which results arrive. A new result costs time proportional
to its dependents, not to the size of the study.

Of the steps that are ready, the one with the most expensive chain of dependents runs first, so that no long chain is
left for the end of the study while other workers are idle. Steps that measure times run alone on their machine, which
the workers see to.
"""

from __future__ import annotations

import graphlib
import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from tickdsl.engine.scheduler.arm_ends import ArmSeed, Metrics, arm_ends, is_in_time
from tickdsl.plan.measurement_steps import EXCLUSIVE_OPERATIONS
from tickdsl.plan.study import Level, Measurement, Study


class StepScheduler:
    """The needed steps of a study, handed out by `take`, parents first.

    `metrics(key)` returns the metrics of a stored result, else None; `step_cost(key)` the cost of a step, in any unit.
    The owner reports results by `finish` and failures by `fail`, and gets the completed measurements from
    `pop_measured`.
    """

    def __init__(
        self,
        study: Study,
        metrics: Callable[[str], Metrics | None],
        step_cost: Callable[[str], float] = lambda key: 1.0,
    ) -> None:
        self._study = study
        self._graph = study.graph
        self._dependencies = {key: step_dependencies(study, key) for key in study.graph}
        self._dependents: dict[str, list[str]] = defaultdict(list)
        for key, dependencies in self._dependencies.items():
            for dependency in dependencies:
                self._dependents[dependency].append(key)
        self._metrics = metrics
        path_costs = _critical_path_costs(study, self._dependents, step_cost)
        self._by_rank: list[str] = sorted(study.graph, key=lambda key: -path_costs[key])
        self._rank = {key: rank for rank, key in enumerate(self._by_rank)}
        self._levels: dict[ArmSeed, list[Level]] = defaultdict(list)
        for level in study.levels:
            self._levels[level.arm, level.seed].append(level)
        self._measurements_at: dict[tuple[ArmSeed, int, bool], list[Measurement]] = defaultdict(list)
        for m in study.measurements:
            self._measurements_at[(m.arm, m.seed), m.level, m.final_only].append(m)

        self._needed: set[str] = set()
        self._missing: dict[str, set[str]] = {}  # the dependencies of needed steps that have no result
        self._ready_heap: list[int] = []
        self._exclusive_heap: list[int] = []  # ready steps that must run alone
        self._taken: set[str] = set()
        self._unreachable: set[str] = set()
        self._expected: dict[str, list[Measurement]] = {}
        self._new_measurements: list[Measurement] = []
        self._last_levels: dict[ArmSeed, int] = {}  # of arms that have ended
        self._dropped: set[str] = set()
        self._drop_due = False
        self._undecided: dict[str, list[tuple[ArmSeed, int]]] = defaultdict(list)
        for pair in dict.fromkeys((m.arm, m.seed) for m in study.measurements):
            self._expect_measurements(self._measurements_at[pair, 0, False])
            self._confirm_level(pair, 0)

    @property
    def pending(self) -> bool:
        """Whether any step is still needed, including the steps that are running."""
        return bool(self._needed)

    def take(self, quiet: bool = True) -> str | None:
        """The next step to run; None if none is ready.

        quiet: whether it would run on a machine where no other step runs; steps that measure times need that.
        """
        heaps = (self._ready_heap, self._exclusive_heap) if quiet else (self._ready_heap,)
        while filled := [heap for heap in heaps if heap]:
            key = self._by_rank[heapq.heappop(min(filled))]
            if self._is_ready(key):
                self._taken.add(key)
                return key
        return None

    def take_matching(self, matches: Callable[[str], bool], limit: int) -> list[str]:
        """Up to `limit` more steps that are ready and match, without those that must run alone."""
        taken: list[str] = []
        if limit < 1:
            return taken
        for rank in sorted(set(self._ready_heap)):
            key = self._by_rank[rank]
            if len(taken) < limit and self._is_ready(key) and matches(key):
                self._taken.add(key)
                taken.append(key)
        return taken

    def _is_ready(self, key: str) -> bool:
        """Whether a queued step is needed, not taken, and has all its parents."""
        can_start = key in self._needed and key not in self._taken and not self._missing[key]
        return can_start and not self._comes_from_training(key)

    def requeue(self, key: str) -> None:
        """Put back a step that was taken."""
        self._taken.discard(key)
        self._push_if_ready(key)

    def dependencies(self, key: str) -> tuple[str, ...]:
        """The steps whose results this step reads."""
        return self._dependencies[key]

    def requeue_after_loss(self, key: str, lost: Iterable[str]) -> None:
        """Put back a step that was taken but cannot start because the results `lost` are no longer stored."""
        self._taken.discard(key)
        for dependency in lost:
            self._require_again(dependency)

    def measure_again(self, measurement: Measurement) -> None:
        """Report that the result of a measured step is no longer stored."""
        self._expected.setdefault(measurement.step, []).append(measurement)
        self._require_again(measurement.step)

    def finish(self, key: str) -> None:
        """Report that the result of a step is stored."""
        self._taken.discard(key)
        if key in self._needed:
            self._needed.discard(key)
            for child in self._dependents[key]:
                if child in self._needed:
                    self._missing[child].discard(key)
                    self._push_if_ready(child)
        for point in self._graph.nodes[key]["prefixes"].values():
            self._push_if_ready(point)
        self._new_measurements += self._expected.pop(key, [])
        for pair, index in self._undecided.pop(key, []):
            self._decide_end(pair, index)

    def fail(self, key: str) -> None:
        """Report that a step failed: its dependents, and steps that only these need, are not needed any more."""
        self._taken.discard(key)
        stack = [key]
        while stack:
            current = stack.pop()
            if current not in self._unreachable and self._metrics(current) is None:
                self._unreachable.add(current)
                stack += self._dependents[current]
        self._drop_due = True
        self._needed.clear()
        self._ready_heap.clear()
        self._exclusive_heap.clear()
        for target in (*self._expected, *self._undecided):
            self._require(target)

    def pop_measured(self) -> list[Measurement]:
        """The measurements of confirmed levels that were completed since the last call."""
        measurements, self._new_measurements = self._new_measurements, []
        return measurements

    def pop_dropped(self) -> list[str]:
        """The steps without a result that have become superfluous or impossible since the last call.

        They belong to levels after the end of their arm, or depend on a step that failed.
        """
        if not self._drop_due:
            return []
        self._drop_due = False
        possible: set[str] = set()
        stack = [m.step for m in self._study.measurements if self._can_be_measured(m)]
        while stack:
            key = stack.pop()
            if key not in possible:
                possible.add(key)
                stack += self._dependencies[key]
        dropped = [key for key in self._graph if key not in possible and key not in self._dropped]
        self._dropped.update(dropped)
        return [key for key in dropped if self._metrics(key) is None]

    def _can_be_measured(self, m: Measurement) -> bool:
        return is_in_time(m, self._last_levels.get((m.arm, m.seed))) and m.step not in self._unreachable

    # -- levels

    def _confirm_level(self, pair: ArmSeed, index: int) -> None:
        """Confirm the level with this index, if there is one."""
        if index < len(self._levels[pair]):
            self._expect_measurements(self._measurements_at[pair, self._levels[pair][index].level, False])
            self._decide_end(pair, index)

    def _decide_end(self, pair: ArmSeed, index: int) -> None:
        """Confirm the next level or end the arm, as soon as it is known whether this level is the last."""
        levels = self._levels[pair]
        ends = True if index == len(levels) - 1 else arm_ends(self._study, levels[index], self._metrics)
        if isinstance(ends, str):
            self._undecided[ends].append((pair, index))
            self._require(ends)  # it may be missing although what was made from it is stored
        elif ends:
            self._last_levels[pair] = levels[index].level
            self._drop_due |= index < len(levels) - 1
            self._expect_measurements(self._measurements_at[pair, levels[index].level, True])
        else:
            self._confirm_level(pair, index + 1)

    def _expect_measurements(self, measurements: Iterable[Measurement]) -> None:
        for m in measurements:
            if self._metrics(m.step) is not None:
                self._new_measurements.append(m)
            else:
                self._expected.setdefault(m.step, []).append(m)
                self._require(m.step)

    # -- steps

    def _require(self, target: str) -> None:
        """Mark a step as needed, with all its ancestors that have no result."""
        if target in self._unreachable:
            return
        stack = [target]
        while stack:
            key = stack.pop()
            if key in self._needed or self._metrics(key) is not None:
                continue
            self._needed.add(key)
            missing = [parent for parent in self._dependencies[key] if self._metrics(parent) is None]
            self._missing[key] = set(missing)
            self._push_if_ready(key)
            stack += missing

    def _require_again(self, lost: str) -> None:
        """Mark a step as needed whose result is no longer stored."""
        for dependent in self._dependents[lost]:
            if dependent in self._needed:
                self._missing[dependent].add(lost)
        self._require(lost)

    def _push_if_ready(self, key: str) -> None:
        if key in self._needed and not self._missing[key]:
            heapq.heappush(self._exclusive_heap if self._is_exclusive(key) else self._ready_heap, self._rank[key])

    def _is_exclusive(self, key: str) -> bool:
        return self._study.step(key).operation in EXCLUSIVE_OPERATIONS

    def _comes_from_training(self, key: str) -> bool:
        """Whether this step is a rewind point that a training, which is also needed, stores on its way."""
        return self._graph.nodes[key].get("prefix_of") in self._needed


def step_dependencies(study: Study, key: str) -> tuple[str, ...]:
    """The parents of a step, and the structures of the weights that it slices or distills from."""
    parents = study.step(key).parents
    weight_sources = [parents[role] for role in ("weights", "teacher", "head") if role in parents]
    sources = [study.step(source_key).parents.get("structure") for source_key in weight_sources]
    return tuple(dict.fromkeys([*parents.values(), *(source for source in sources if source)]))


def _critical_path_costs(
    study: Study, dependents: Mapping[str, list[str]], step_cost: Callable[[str], float]
) -> dict[str, float]:
    """The cost of each step together with its most expensive chain of dependents.

    Steps that read a rewind point depend on the training that stores it.
    """
    nodes = study.graph.nodes
    successors = {key: [*dependents.get(key, ()), *nodes[key]["prefixes"].values()] for key in study.graph}
    path_costs: dict[str, float] = {}
    for key in graphlib.TopologicalSorter(successors).static_order():
        own_cost = 0.0 if nodes[key].get("prefix_of") else step_cost(key)
        path_costs[key] = own_cost + max((path_costs[successor] for successor in successors[key]), default=0.0)
    return path_costs
