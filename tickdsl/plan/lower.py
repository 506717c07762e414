"""Lower a plan to steps: all arms under all seeds, sharing equal steps."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import networkx as nx

from tickdsl.plan import between_networks
from tickdsl.plan.arms.lowering import ArmLowering
from tickdsl.plan.arms.state import ArmResults
from tickdsl.plan.measurement_steps import DEFAULT_CONTEXT, MeasurementContext
from tickdsl.plan.model import Arm, Plan, Prune
from tickdsl.plan.step_builder import (
    DenseCost,
    Fingerprint,
    IsTicket,
    MaskOfRun,
    TaskOf,
    default_task,
    no_cost,
    no_ticket,
    unread_mask,
)
from tickdsl.plan.steps import Step
from tickdsl.plan.study import Level, LoweringError, Measurement, Study


def lower(
    plan: Plan,
    *,
    fingerprint: Fingerprint,
    rounds: Callable[[Arm, Prune], int],
    surroundings: MeasurementContext = DEFAULT_CONTEXT,
    is_ticket: IsTicket = no_ticket,
    task_of: TaskOf = default_task,
    dense_cost: DenseCost = no_cost,
    mask_of_run: MaskOfRun = unread_mask,
) -> Study:
    """Lower a plan to steps.

    `fingerprint` identifies the content of a data set or weights file; `rounds` returns the maximum number of rounds of
    an `until`; `surroundings` is what measurements depend on besides the network; `is_ticket` tells whether the weights
    file of a network is a ticket; `task_of` names the task of a data set; `dense_cost` tells what the dense network of
    an arm costs, for conditions that compare with it; `mask_of_run` finds masks in stored runs. Raises
    LoweringError for a plan that `check` refuses, such as one whose arms depend on themselves.
    """
    return _PlanLowering(plan, fingerprint, rounds, surroundings, is_ticket, task_of, dense_cost, mask_of_run).study()


class _PlanLowering:
    """Lowers all arms under all seeds; an arm that another refers to is lowered first."""

    def __init__(
        self,
        plan: Plan,
        fingerprint: Fingerprint,
        rounds: Callable[[Arm, Prune], int],
        context: MeasurementContext,
        is_ticket: IsTicket,
        task_of: TaskOf,
        dense_cost: DenseCost,
        mask_of_run: MaskOfRun,
    ) -> None:
        self.plan, self.fingerprint, self.rounds, self.context = plan, fingerprint, rounds, context
        self.is_ticket, self.task_of, self.dense_cost = is_ticket, task_of, dense_cost
        self.mask_of_run = mask_of_run
        #: The arms whose levels are measured; helpers are not.
        self.measured_arms = frozenset(arm.id for arm in plan.arms)
        self.graph: nx.DiGraph[str] = nx.DiGraph()
        self.measurements: list[Measurement] = []
        self.levels: list[Level] = []
        self._unshared_trainings = 0
        self._lowerings: dict[tuple[str, int], ArmLowering] = {}
        #: None while an arm is being lowered to its end.
        self._results: dict[tuple[str, int], ArmResults | None] = {}

    def study(self) -> Study:
        for arm, seed in itertools.product(self.plan.arms, self.plan.seeds):
            self._lower_once(arm, seed)
        between_networks.add_measurements(self)
        self._unshared_trainings = sum(lowering.trainings for lowering in self._lowerings.values())
        _link_prefixes(self.graph)
        return Study(self.plan, self.graph, tuple(self.measurements), tuple(self.levels), self._unshared_trainings)

    def results_of(self, name: str, referrer: Arm, seed: int) -> ArmResults:
        """The results of the arm `name` under the same seed and the same sweep values as `referrer`."""
        arm = self.plan.find_arm(name, referrer)
        if arm is None:
            raise LoweringError(f"arm {referrer.id} refers to unknown arm {name}")
        return self._lower_once(arm, seed)

    def _lower_once(self, arm: Arm, seed: int) -> ArmResults:
        key = (arm.id, seed)
        if key in self._results:
            known = self._results[key]
            if known is None:
                raise LoweringError(f"arm {arm.id} depends on itself")
            return known
        self._results[key] = None
        results = self._results[key] = self.lowering_of(arm, seed).lower()
        return results

    def lowering_of(self, arm: Arm, seed: int) -> ArmLowering:
        """The lowering of an arm under a seed, which may have to be continued."""
        key = (arm.id, seed)
        if key not in self._lowerings:
            self._lowerings[key] = ArmLowering(self, arm, seed)
        return self._lowerings[key]


def _link_prefixes(graph: nx.DiGraph[str]) -> None:
    """Link every training that stops early to the full training it is a prefix of, which can store it on its way."""
    longest: dict[str, str] = {}
    trainings = [(key, node["step"]) for key, node in graph.nodes(data=True) if node["step"].operation == "train"]
    for key, step in trainings:
        if "stop" not in step.args:
            longest[_without_stop(step)] = key
    for key, step in trainings:
        leader = longest.get(_without_stop(step)) if "stop" in step.args else None
        if leader is not None:
            graph.nodes[leader]["prefixes"][step.args["stop"]] = key
            graph.nodes[key]["prefix_of"] = leader


def _without_stop(step: Step) -> str:
    args = {name: value for name, value in step.args.items() if name != "stop"}
    return Step("train", args, step.parents, step.seed).key
