"""Write out a resolved plan: one arm per combination of sweep values, every default explicit (`tickdsl expand`)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import attrs

from tickdsl.errors import TickdslError
from tickdsl.lang import vocabulary
from tickdsl.lang.meaning.arm_expansion import IMPLICIT_ARM_NAME
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.lang.writing import unparse
from tickdsl.lang.writing.cycles import fold_into_cycles
from tickdsl.lang.writing.format import format_source
from tickdsl.lang.writing.literals import format_name, format_percentage
from tickdsl.plan import model

#: The metrics shown for a plan without `report`.
DEFAULT_METRICS = ("accuracy", "sparsity", "params", "flops")


def expand(plan: model.Plan) -> str:
    """The text of a plan with the same steps, but without sweeps, variables, includes and implicit defaults.

    Raises TickdslError if no text resolves to the same steps.
    """
    arms = _required_arms(plan)
    text = format_source(Source(plan.path, _PlanWriter(plan, arms, unique_arm_names(arms)).render()))
    expanded = resolve(load_source(Source(plan.path, text))).plan
    if expanded is None or _signature(expanded, _required_arms(expanded)) != _signature(plan, arms):
        raise TickdslError(
            "this plan cannot be expanded: the expanded text would have other steps",
            "shorten shares and lengths with more than 18 digits",
        )
    return text


def _required_arms(plan: model.Plan) -> tuple[model.Arm, ...]:
    """The compared arms and the arms they depend on, in the order of the plan."""
    required = {arm.id: arm for arm in plan.arms}
    queue = list(plan.arms)
    while queue:
        referrer = queue.pop()
        for name in referrer.referenced_arms:
            other = plan.find_arm(name, referrer)
            if other is not None and other.id not in required:
                required[other.id] = other
                queue.append(other)
    order = [arm.id for arm in (*plan.arms, *plan.helpers)]
    return tuple(sorted(required.values(), key=lambda arm: order.index(arm.id)))


def unique_arm_names(arms: Iterable[model.Arm]) -> dict[str, str]:
    """A unique name for each arm id: `lr-rewind[scope=local]` becomes `lr-rewind-local`.

    If the values alone are ambiguous, the names of the sweeps are added, and then a number.
    """
    arms = list(arms)
    taken = {*vocabulary.CONTROLS, vocabulary.ALL_ARMS, *(arm.name for arm in arms)}
    names = {arm.id: arm.name for arm in arms if not arm.sweep}
    for name in dict.fromkeys(arm.name for arm in arms if arm.sweep):
        swept = [arm for arm in arms if arm.name == name and arm.sweep]
        by_value = [_join_name(name, *arm.sweep.values()) for arm in swept]
        if len({*by_value}) < len(swept) or taken & {*by_value}:
            by_value = [_join_name(name, *(word for pair in arm.sweep.items() for word in pair)) for arm in swept]
        for arm, wanted in zip(swept, by_value, strict=True):
            unique, number = wanted, 1
            while unique in taken:
                number += 1
                unique = f"{wanted}-{number}"
            taken.add(unique)
            names[arm.id] = unique
    return {arm.id: names[arm.id] for arm in arms}


def _join_name(*words: str) -> str:
    """Join words to a valid name of the plan language."""
    text = "-".join(re.sub(r"[^A-Za-z0-9_.-]+", "-", word) for word in words)
    return re.sub(r"[.-]*-[.-]*", "-", re.sub(r"\.+", ".", text)).strip("-.")


def _signature(plan: model.Plan, arms: tuple[model.Arm, ...]) -> Any:
    """Everything that determines the steps of a plan, with indices instead of arm names."""
    indices = {arm.id: index for index, arm in enumerate(arms)}
    return [
        [_arm_signature(plan, arm, indices) for arm in arms],
        len(plan.arms),
        plan.seeds,
        [control for control in plan.rivals if control != "dense"],
        plan.rival_levels,
        plan.rival_budget,
        plan.rival_match,
        plan.within,
        plan.matched_by,
        plan.metric,
        plan.metrics or DEFAULT_METRICS,
        [pair for line in plan.lines for pair in _ends(plan, line)],
        plan.measuring,
        plan.stops,
    ]


def _ends(plan: model.Plan, line: model.Line) -> Iterator[tuple[int | str, int | str]]:
    """The networks at the ends of a line, for each combination of sweep values: indices of arms, or words."""
    ids = [arm.id for arm in plan.arms]
    for arm, end in plan.line_ends(line):
        yield (
            ids.index(arm.id) if line.start != "dense" else "dense",
            end if isinstance(end, str) else ids.index(end.id),
        )


def _arm_signature(plan: model.Plan, arm: model.Arm, indices: dict[str, int]) -> Any:
    dependencies = [
        indices[other.id] for name in arm.referenced_arms if (other := plan.find_arm(name, arm)) is not None
    ]
    rounds = tuple(_without_arm_names(group, arm.referenced_arms) for group in arm.rounds)
    cycles = _nameless_cycles(arm.cycles, arm.referenced_arms)
    return [dependencies, model.as_json(attrs.evolve(arm, id="", name="", sweep={}, rounds=rounds, cycles=cycles))]


def _without_arm_names(group: model.Rounds, names: Collection[str]) -> model.Rounds:
    """The rounds with the `names` of other arms replaced by ""."""
    prune = group.prune
    if isinstance(prune.amount, model.Matching):
        prune = attrs.evolve(prune, amount=model.Matching(""))
    tail = _nameless(group.tail, names)
    return attrs.evolve(group, prune=prune, tail=tail, cycles=_nameless_cycles(group.cycles, names))


def _nameless_cycles(cycles: Iterable[model.TrainingCycle], names: Collection[str]) -> tuple[model.TrainingCycle, ...]:
    return tuple(attrs.evolve(cycle, tail=_nameless(cycle.tail, names)) for cycle in cycles)


def _nameless(tail: Iterable[model.Tail], names: Collection[str]) -> tuple[model.Tail, ...]:
    return tuple(_tail_without_names(action, names) for action in tail)


def _tail_without_names(action: model.Tail, names: Collection[str]) -> model.Tail:
    match action:
        case model.Distill(teacher=teacher) if teacher in names:
            return attrs.evolve(action, teacher="")
        case model.Union(arms=arms):
            return attrs.evolve(action, arms=("",) * len(arms))
    return action


class _PlanWriter:
    """Writes the statements of a plan."""

    def __init__(self, plan: model.Plan, arms: tuple[model.Arm, ...], arm_names: dict[str, str]) -> None:
        self.plan, self.arms, self.arm_names = plan, arms, arm_names
        #: A single unnamed arm is written without `arm NAME { … }`.
        self.implicit = len(arms) == 1 and arms[0].name == IMPLICIT_ARM_NAME and not arms[0].sweep

    def render(self) -> str:
        fork = next((arm.fork for arm in self.arms if arm.fork is not None), None)
        if fork is not None:
            return self._render_forked(fork)
        settings_by_arm = [unparse.settings(arm) for arm in self.arms]
        shared = [line for line in settings_by_arm[0] if all(line in settings for settings in settings_by_arm)]
        lines = ["plan 1", f"seeds {_seeds(self.plan.seeds)}", "", *shared, ""]
        for arm, settings in zip(self.arms, settings_by_arm, strict=True):
            own = [line for line in settings if line not in shared] if arm.has_levels else settings
            body = [*own, *self._pipeline_lines(arm)]
            lines += body if self.implicit else [f"arm {self.arm_names[arm.id]} {{", *body, "}", ""]
        return "\n".join([*lines, "", *self._question_lines(), ""])

    def _render_forked(self, fork: model.Fork) -> str:
        """The text of arms with recipes of their own after the statements before the arms.

        Raises TickdslError if the statements before the arms are not the same for all of them.
        """
        plans = [attrs.evolve(arm, recipe=arm.dense_recipe, fork=None) for arm in self.arms]
        settings = [unparse.settings(arm) for arm in plans]
        starts = [_begun(arm, fork) for arm in self.arms]
        if any(lines != settings[0] for lines in settings) or any(start != starts[0] for start in starts):
            raise TickdslError(
                "this plan cannot be expanded: arms have their own recipes, and a sweep changes what is before them",
                "fix the sweep with `--set NAME=VALUE`",
            )
        cycles, rounds = starts[0]
        shared = attrs.evolve(plans[0], cycles=cycles, rounds=rounds, transfer=None, elastic=None)
        lines = ["plan 1", f"seeds {_seeds(self.plan.seeds)}", "", *settings[0], "", *self._pipeline_lines(shared), ""]
        for arm, lines_of_plan in zip(self.arms, settings, strict=True):
            train = [line for line in unparse.settings(arm) if line not in lines_of_plan]
            rest = attrs.evolve(arm, rounds=arm.rounds[fork.rounds :], cycles=())
            if fork.rounds:
                last = arm.rounds[fork.rounds - 1]
                last = attrs.evolve(last, tail=last.tail[fork.tail :], cycles=last.cycles[fork.cycles :])
                begun = self._round_lines(last, arm)[1:]
            else:
                begun = tuple(self._cycle_lines(arm.cycles[fork.cycles :], arm))
            body = [*train, *begun, *self._pipeline_lines(rest)]
            lines += [f"arm {self.arm_names[arm.id]} {{", *body, "}", ""]
        return "\n".join([*lines, "", *self._question_lines(), ""])

    def _pipeline_lines(self, arm: model.Arm) -> Iterator[str]:
        yield from self._cycle_lines(arm.cycles, arm)
        groups = [self._round_lines(group, arm) for group in arm.rounds]
        for times, body in fold_into_cycles(arm.rounds, groups):
            lines = [line for index in body for line in groups[index]]
            yield from lines if times is None else [f"cycle {times} {{", *lines, "}"]
        if arm.elastic is not None:
            yield unparse.elastic(arm.elastic)
        if arm.transfer is not None:
            tails = [unparse.tail(tail, arm) for tail in arm.transfer.tail]
            yield unparse.transfer(arm.transfer) + (f" {{ {'; '.join(tails)} }}" if tails else "")

    def _round_lines(self, group: model.Rounds, arm: model.Arm) -> tuple[str, ...]:
        amount = group.prune.amount
        matched = self._name(amount.arm, arm) if isinstance(amount, model.Matching) else ""
        cycles = self._cycle_lines(group.cycles, arm)
        prune, times = group.prune, group.prune.times or 1
        is_within_training = (
            prune.gradual is not None or prune.settles is not None or isinstance(prune.via, model.Zeroing)
        )
        if times > 1 and is_within_training:  # these take no `x N`
            once = unparse.prune(attrs.evolve(prune, times=1), matched)
            return (f"cycle {times} {{", once, *self._tail_lines(group.tail, arm), "}", *cycles)
        return (unparse.prune(prune, matched), *self._tail_lines(group.tail, arm), *cycles)

    def _cycle_lines(self, cycles: Iterable[model.TrainingCycle], arm: model.Arm) -> Iterator[str]:
        for cycle in cycles:
            yield from (f"cycle {cycle.times} {{", *self._tail_lines(cycle.tail, arm), "}")

    def _tail_lines(self, tails: Iterable[model.Tail], arm: model.Arm) -> list[str]:
        return [unparse.tail(tail, arm, self._names_in(tail, arm)) for tail in tails]

    def _names_in(self, tail: model.Tail, arm: model.Arm) -> list[str]:
        """The names of the arms that a statement after a prune refers to."""
        match tail:
            case model.Distill(teacher=teacher):
                return [self._name(teacher, arm)]
            case model.Union(arms=arms):
                return [self._name(name, arm) for name in arms]
        return []

    def _name(self, name: str, referrer: model.Arm) -> str:
        other = None if name == "dense" else self.plan.find_arm(name, referrer)
        return name if other is None else self.arm_names[other.id]

    def _line_texts(self, line: model.Line) -> Iterator[str]:
        """A metric on a line between networks, for each combination of sweep values."""
        for arm, end in self.plan.line_ends(line):
            start = "dense" if line.start == "dense" else self.arm_names[arm.id]
            yield str(model.Line(line.metric, start, end if isinstance(end, str) else self.arm_names[end.id]))

    def _question_lines(self) -> Iterator[str]:
        plan = self.plan
        compared = ["all"] if self.implicit else [self.arm_names[arm.id] for arm in plan.arms]
        controls = [control for control in plan.rivals if control != "dense"]
        options = [f"within={format_percentage(plan.within)}"]
        if controls or plan.rival_levels != "all":
            options.insert(0, f"levels={plan.rival_levels}")
        if {"random-init", "random-structure"} & set(controls) or plan.rival_budget != "epochs":
            options.append(f"budget={plan.rival_budget}")
        if plan.rival_match != "units":
            options.append(f"match={plan.rival_match}")
        if len(plan.arms) > 1:
            options.append(f"at={plan.matched_by}")
        if plan.metric:
            options.append(f"metric={format_name(plan.metric)}")
        yield " ".join([f"compare {', '.join([*compared, 'dense', *controls])}", *options])
        measuring = unparse.report_options(plan.metrics, plan.measuring)
        lines = dict.fromkeys(text for line in plan.lines for text in self._line_texts(line))
        yield " ".join(
            [f"report {', '.join([*map(format_name, plan.metrics or DEFAULT_METRICS), *lines])}", *measuring]
        )
        for stop in plan.stops:
            yield f"stop when {unparse.condition(stop)}"


def _begun(arm: model.Arm, fork: model.Fork) -> tuple[tuple[model.TrainingCycle, ...], tuple[model.Rounds, ...]]:
    """The cycles and the rounds that the statements before the arms begin, with the tails that they hold."""
    if not fork.rounds:
        return arm.cycles[: fork.cycles], ()
    last = arm.rounds[fork.rounds - 1]
    begun = attrs.evolve(last, tail=last.tail[: fork.tail], cycles=last.cycles[: fork.cycles])
    return arm.cycles, (*arm.rounds[: fork.rounds - 1], begun)


def _seeds(seeds: tuple[int, ...]) -> str:
    if len(seeds) > 1 and seeds == tuple(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]}..{seeds[-1]}"
    return f"[{', '.join(map(str, seeds))}]"
