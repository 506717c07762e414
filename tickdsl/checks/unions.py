"""Check `union of ARM, …`: the arms have tickets of the same network (TD459)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tickdsl.checks.arm_references import level_count
from tickdsl.errors import TickdslError
from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.plan.model import Arm, Plan, ToCost, Union
from tickdsl.training.catalogue import architecture_options


def diagnostics(plan: Plan) -> Iterator[Diagnostic]:
    """Yield findings about unions that need no network; `plan.arms` must be complete."""
    for arm, union, other in _unions(plan):
        message = _mismatch(arm, union, other)
        if message is not None:
            yield _finding(union, other, message, "name arms that prune the same network")
    for arm in (*plan.arms, *plan.helpers):
        for group in arm.distinct_rounds.values():
            tails = [tail for tail in group.tail if isinstance(tail, Union)]
            if not tails:
                continue
            obstacle = None
            if isinstance(group.prune.amount, ToCost):
                obstacle = f"`to … of {group.prune.amount.cost}` cannot be kept with a `union`, which puts units back"
            elif group.prune.multiple > 1:
                obstacle = f"`multiple={group.prune.multiple}` cannot be kept with a `union`, which puts units back"
            elif group.prune.until is not None:
                obstacle = "`until` with a share has no known number of rounds with a `union`, which puts units back"
            if obstacle is not None:
                yield Diagnostic(
                    "TD459",
                    obstacle,
                    group.prune.amount_span or group.prune.span,
                    secondary=(Label(tails[0].span, "the union"),),
                    help="prune a share per round, such as `20% x 4`",
                )


def network_diagnostics(plan: Plan, data: Path | None) -> Iterator[Diagnostic]:
    """Yield findings about unions of networks whose bodies differ on their data."""
    from tickdsl.engine.graph_cache import dense_graph
    from tickdsl.graph.structure import Structure
    from tickdsl.pruning.transfer import transfer_structure

    for arm, union, other in _unions(plan):
        if _mismatch(arm, union, other) is not None:
            continue
        try:
            graph, theirs = dense_graph(arm, data), dense_graph(other, data)
        except TickdslError:
            continue  # it has a finding of its own
        fully_pruned = Structure.dense(theirs)
        for group in theirs.channels:
            if group.reason is None and group.size > 1:
                fully_pruned = fully_pruned.remove(group.name, [group.size - 1])
        try:
            transfer_structure(fully_pruned, graph)
        except TickdslError as error:
            message = f"arm `{other.name}` prunes another body: {error.message}"
            yield _finding(union, other, message, "name arms whose data have inputs of the same shape")


def _unions(plan: Plan) -> Iterator[tuple[Arm, Union, Arm]]:
    """Each arm with a union, the union, and each of the arms that it names."""
    for arm in (*plan.arms, *plan.helpers):
        for group in arm.distinct_rounds.values():
            for tail in group.tail:
                if isinstance(tail, Union):
                    for name in tail.arms:
                        other = plan.find_arm(name, arm)
                        if other is not None:
                            yield arm, tail, other


def _mismatch(arm: Arm, union: Union, other: Arm) -> str | None:
    if not other.rounds:
        return f"arm `{other.name}` has no prune, and so no ticket"
    if (arm.model.name, _architecture(arm)) != (other.model.name, _architecture(other)):
        what = f"{other.model.name} instead of {arm.model.name}"
        if arm.model.name == other.model.name:
            what = f"a {other.model.name} with other options"
        return f"arm `{other.name}` prunes another network: {what}"
    if level_count(other) is None:
        return f"how many levels arm `{other.name}` has is known only in the run"
    return None


def _architecture(arm: Arm) -> dict[str, object]:
    return architecture_options(arm.model.options)


def _finding(union: Union, other: Arm, message: str, help: str) -> Diagnostic:
    secondary = (Label(other.span, f"arm `{other.name}`"),) if other.span is not None else ()
    return Diagnostic("TD459", message, union.span, secondary=secondary, help=help)
