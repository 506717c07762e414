"""Check arms against the arms that they distil from (TD519) or match (TD521)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tickdsl.checks.traced_prune import TracedPrune
from tickdsl.errors import TickdslError
from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.plan.model import Arm, Data, Distill, Matching, Model, Plan, Prune, Rounds, ToCost
from tickdsl.plurals import plural
from tickdsl.pruning.round_forecast import forecast_rounds
from tickdsl.pruning.scope import GROUP_KINDS, LAYERS
from tickdsl.training import catalogue
from tickdsl.training.catalogue.input_shapes import is_tokens

#: The options of a data set that change the shape of its images or its classes.
_SHAPING = ("size", "channels", "classes", "path")


def diagnostics(plan: Plan) -> Iterator[Diagnostic]:
    """Yield findings about references between arms that need no network; `plan.arms` must be complete."""
    for arm in (*plan.arms, *plan.helpers):
        yield from _check_teachers(plan, arm)
        for index, group in arm.distinct_rounds.items():
            if isinstance(group.prune.amount, Matching):
                other = plan.find_arm(group.prune.amount.arm, arm)
                if other is not None:
                    yield from _check_matching(arm, index, group, other)


def network_diagnostics(plan: Plan, data: Path | None) -> Iterator[Diagnostic]:
    """Yield findings about arms that cannot lose as many units as the arms that they match."""
    from tickdsl.engine.graph_cache import dense_graph

    for arm in (*plan.arms, *plan.helpers):
        for group in arm.distinct_rounds.values():
            if not isinstance(group.prune.amount, Matching):
                continue
            other = plan.find_arm(group.prune.amount.arm, arm)
            if other is None or len(other.rounds) != 1 or group.prune.scope != "global":
                continue
            if other.rounds[0].prune.unit != group.prune.unit:
                continue  # how many units go with others is known only in the run
            try:
                graph = dense_graph(arm, data)
                theirs = TracedPrune(other, other.rounds[0].prune, graph, is_first=True, is_only=True)
                prune = theirs.prune
                if prune.until is not None or prune.ends is not None or isinstance(prune.amount, Matching | ToCost):
                    continue
                removed = sum(forecast_rounds(theirs.scope(), theirs.args, prune.times or 1))
                scope = TracedPrune(arm, group.prune, graph, is_first=True, is_only=True).scope()
            except TickdslError:
                continue  # a prune has a finding of its own
            free = sum(pool.original - pool.minimum for pool in scope.pools)
            if removed > free:
                message = (
                    f"arm `{other.name}` removes {removed:,} {group.prune.unit}, but only {free:,} can be removed here"
                )
                help = f"use the same `in` and `except` as arm `{other.name}`"
                yield _finding(group.prune, other, message, help)


def _check_teachers(plan: Plan, arm: Arm) -> Iterator[Diagnostic]:
    """Check that teachers were trained on the data that their students are trained on."""
    for group in arm.distinct_rounds.values():
        for tail in group.tail:
            teacher = plan.find_arm(tail.teacher, arm) if isinstance(tail, Distill) else None
            if teacher is None:
                continue
            data = teacher.data if teacher.transfer is None else teacher.transfer.data
            difference = _difference(arm.data, data)
            if difference is not None:
                yield Diagnostic(
                    "TD519",
                    f"the teacher, arm `{teacher.name}`, is trained on other data: {difference}",
                    tail.span,
                    secondary=(Label(data.span, "the teacher's data"), Label(arm.data.span, "the student's data")),
                    help="use a teacher that is trained on the same data with the same options",
                )
            elif arm.split is not None and arm.split.by == "classes":
                yield Diagnostic(
                    "TD519",
                    f"the teacher, arm `{teacher.name}`, knows all classes, but each part of the split has only some",
                    tail.span,
                    secondary=(Label(arm.split.span, "split here"),),
                    help="distil from `dense`: each part has its own dense network",
                )


def _difference(data: Data, other: Data) -> str | None:
    """How two data sets differ in their images or classes; None if they do not. A subset of the samples is alike."""
    if data.name != other.name:
        return f"{other.name} instead of {data.name}"
    for option in _SHAPING:
        if option in catalogue.DATASETS[data.name].options:
            mine, theirs = (_value(each, option) for each in (data, other))
            if mine != theirs:
                return f"{option}={theirs or 'unchanged'} instead of {mine or 'unchanged'}"
    return None


def _value(data: Data, option: str) -> Any:
    """The value of an option; the size and channels of known images if they are not changed."""
    info = catalogue.DATASETS[data.name]
    value = data.options.get(option, info.options[option].default)
    is_image = info.shape is not None and not is_tokens(info.shape)
    stored = {"size": info.shape[1], "channels": info.shape[0]} if info.shape is not None and is_image else {}
    return value or stored.get(option, value)


def _check_matching(arm: Arm, index: int, group: Rounds, other: Arm) -> Iterator[Diagnostic]:
    prune = group.prune
    if not other.rounds:
        yield _finding(prune, other, f"arm `{other.name}` has no prune to match", "match an arm that prunes")
        return
    units = {each.prune.unit for each in other.rounds}
    theirs_model = other.judged_model
    if (arm.model.name, _architecture(arm.model)) != (theirs_model.name, _architecture(theirs_model)):
        message = f"arm `{other.name}` prunes another network: {theirs_model.name} instead of {arm.model.name}"
        if arm.model.name == theirs_model.name:
            message = f"arm `{other.name}` prunes a {arm.model.name} with other options"
        yield _finding(prune, other, message, "match an arm of the same network")
        return
    difference = _difference(arm.data, other.data)
    if difference is not None and "samples" not in difference:
        yield _finding(
            prune, other, f"arm `{other.name}` has other data: {difference}", "match an arm on the same data"
        )
        return
    if not _removes(units, prune.unit):
        message = f"arm `{other.name}` prunes {' and '.join(sorted(units))}, not {prune.unit}"
        yield _finding(prune, other, message, f"use `prune {sorted(units)[0]} … matching {other.name}`")
        return
    theirs = level_count(other)
    if theirs is None:
        return  # only the run knows
    before = level_count(arm, index)
    if group.is_one_level and theirs > 1 and prune.times is None:
        message = f"arm `{other.name}` has {plural(theirs, 'level')}, but a prune at a fixed moment is a single one"
        help = "add `rewind …` or `retrain …` after the prune, or match an arm with one level"
        yield _finding(prune, other, message, help)
    elif before is not None and before + (prune.times or theirs) > theirs:
        rounds = plural(prune.times or theirs, "round")
        start = f" after {plural(before, 'level')}" if before else ""
        message = f"{rounds}{start}, but arm `{other.name}` has {plural(theirs, 'level')}: the rest removes nothing"
        yield _finding(prune, other, message, f"use at most `x {max(1, theirs - before)}`")
    if prune.scope == "local" and prune.unit in units:
        here = (frozenset(prune.within), frozenset(prune.protect), arm.protects_head)
        there = {(frozenset(g.prune.within), frozenset(g.prune.protect), other.protects_head) for g in other.rounds}
        if here not in there:
            message = f"`local` matches layer by layer, but arm `{other.name}` prunes other layers"
            yield _finding(prune, other, message, f"use the same `in` and `except` as arm `{other.name}`")


def _removes(units: set[str], unit: str) -> bool:
    """Whether prunes of these units also remove units of another kind: weights go with everything."""
    whole_layers = bool(units & set(LAYERS)) and unit in GROUP_KINDS
    return unit in units or unit == "weights" or whole_layers


def level_count(arm: Arm, end: int | None = None) -> int | None:
    """The number of levels of an arm, or of its rounds before index `end`; None if only the run can tell."""
    levels = 0
    for group in arm.rounds[:end]:
        prune = group.prune
        open_ended = prune.until is not None or prune.ends is not None
        if open_ended or (isinstance(prune.amount, Matching) and prune.times is None):
            return None
        if not group.joined:
            levels += 1 if group.is_one_level else prune.times or 1
    return levels


def _architecture(model: Model) -> Any:
    return catalogue.architecture_options(model.options)


def _finding(prune: Prune, other: Arm, message: str, help: str) -> Diagnostic:
    return Diagnostic(
        "TD521",
        message,
        prune.amount_span or prune.span,
        secondary=(Label(other.span, f"arm `{other.name}`"),) if other.span is not None else (),
        help=help,
    )
