"""The steps that compare a network with its initial weights, with another seed's, and with another arm's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from tickdsl.plan.arms.lowering import SeedsContext
from tickdsl.plan.arms.state import DENSE, TICKET
from tickdsl.plan.measurement_steps import network_args
from tickdsl.plan.model import MASK_OVERLAP, NEXT_SEED, SIMILARITIES, Arm, Line
from tickdsl.plan.step_builder import StepBuilder, step_parents
from tickdsl.plan.steps import Step
from tickdsl.plan.study import Measurement

#: The metric of `report` that averages the outputs of all seeds.
ENSEMBLE = "ensemble"
#: The step of a network, by arm id, contestant, level and seed.
_Networks = Mapping[tuple[str, str, int, int], str]


def add_measurements(context: SeedsContext) -> None:
    """Add the measurements between networks that the plan asks for, once all its arms are lowered."""
    plan = context.plan
    tested = [m for m in context.measurements if not m.report_metric]
    networks = {(m.arm, m.contestant, m.level, m.seed): m.step for m in tested}
    arms = {arm.id: arm for arm in plan.arms}
    for m in tested if set(SIMILARITIES) & set(plan.metrics) else ():
        context.measurements += _similarities(context, arms[m.arm], m, networks)
    if ENSEMBLE in plan.metrics:
        context.measurements += list(_ensembles(context, arms, tested))
    for line in plan.lines:
        for arm, end in plan.line_ends(line):
            context.measurements += _on_line(context, line, arm, end, tested, networks)


def _similarities(context: SeedsContext, arm: Arm, m: Measurement, networks: _Networks) -> Iterator[Measurement]:
    """Add the comparisons of a network with its initial weights, and with the same network of the next seed."""
    steps = context.lowering_of(arm, m.seed).measuring_steps
    step: Step = steps.graph.nodes[m.step]["step"]
    other = _of_next_seed(context, m, networks)
    for metric in context.plan.metrics:
        if metric not in SIMILARITIES or (metric == MASK_OVERLAP and other is None):
            continue
        origin = None if metric == MASK_OVERLAP else _origin(steps, step)
        args = {**network_args(step), "metric": metric}
        key = steps.add("similarity", args, step_parents(weights=m.step, origin=origin, other=other), metric)
        yield attrs.evolve(m, step=key, report_metric=metric)


def _ensembles(context: SeedsContext, arms: Mapping[str, Arm], tested: list[Measurement]) -> Iterator[Measurement]:
    """Add the ensemble of all seeds of each network; it is measured with that of the last seed."""
    by_network: dict[tuple[str, str, int], list[Measurement]] = {}
    for m in tested:
        by_network.setdefault((m.arm, m.contestant, m.level), []).append(m)
    for members in by_network.values():
        if len(members) < 2:
            continue
        last = members[-1]
        steps = context.lowering_of(arms[last.arm], last.seed).measuring_steps
        roles: dict[str, str] = {}
        for number, m in enumerate(members, 1):
            trained: Step = steps.graph.nodes[m.step]["step"]
            roles[f"weights {number}"] = m.step
            if trained.structure is not None:
                roles[f"structure {number}"] = trained.structure
        key = steps.add("ensemble", network_args(steps.graph.nodes[last.step]["step"]), roles, ENSEMBLE)
        for m in members[:-1]:
            steps.graph.nodes[key]["uses"][m.arm, m.seed] = None
        yield attrs.evolve(last, step=key, report_metric=ENSEMBLE)


def _origin(steps: StepBuilder, trained: Step) -> str:
    """The initial weights of a network: those that it was trained from if these are fresh, else the dense network's."""
    start = trained.parents["weights"]
    return start if steps.graph.nodes[start]["step"].operation == "init" else steps.init(None)


def _of_next_seed(context: SeedsContext, m: Measurement, networks: _Networks) -> str | None:
    """The same network of the next seed; None in a plan with one seed."""
    seed = context.plan.donor(NEXT_SEED, m.seed)
    return None if seed == m.seed else networks.get((m.arm, m.contestant, m.level, seed))


def _on_line(
    context: SeedsContext, line: Line, arm: Arm, end: Arm | str, tested: list[Measurement], networks: _Networks
) -> Iterator[Measurement]:
    """Add the measurements on the lines from the networks of an arm to those at the end, at every level of both."""
    contestant = TICKET if arm.has_levels and line.start != DENSE else DENSE
    for m in tested:
        if (m.arm, m.contestant) != (arm.id, contestant):
            continue
        match end:
            case "":
                other = _of_next_seed(context, m, networks)
            case str():
                other = networks.get((arm.id, DENSE, 0, m.seed))
            case _ if end.has_levels:
                other = networks.get((end.id, TICKET, m.level, m.seed))
            case _:
                other = networks.get((end.id, DENSE, 0, m.seed))
        if other is not None and other != m.step:  # levels that both arms share are one network
            steps = context.lowering_of(arm, m.seed).measuring_steps
            yield attrs.evolve(m, step=_line(steps, m.step, other), report_metric=str(line), line=True)


def _line(steps: StepBuilder, start: str, end: str) -> str:
    """Add the barrier between two networks; if their masks differ, the line leads through dense networks."""
    first, second = (steps.graph.nodes[key]["step"] for key in (start, end))
    args = network_args(first)
    if first.structure != second.structure:
        args["masks"] = "own"
    roles = step_parents(weights=start, structure=first.structure, other=end)
    return steps.add("barrier", args, roles, "barrier")
