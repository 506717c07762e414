"""What the arms of a plan are to each other: seeds, rivals, budgets, data."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction

from tickdsl.checks.schedules import retraining_length
from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.plan.model import Arm, Data, Plan, Rewind

#: More pipelines than this are worth a warning.
MAX_PIPELINES = 100
#: Lengths of training that differ by a smaller share than this are taken for equal.
TOLERANCE = Fraction(1, 10)


def diagnostics(plan: Plan) -> list[Diagnostic]:
    """Findings about the arms of a plan together; `plan.arms` are all of them."""
    return [
        *_check_seeds(plan),
        *_check_size(plan),
        *_check_baseline(plan),
        *_check_random_structure(plan),
        *_check_budgets(plan),
        *_check_data(plan),
    ]


def _check_seeds(plan: Plan) -> Iterator[Diagnostic]:
    if len(plan.seeds) == 1:
        yield Diagnostic(
            "TD505",
            "one seed: differences of a few tenths of a point are noise, and no verdict is given",
            plan.arms[0].span,
            help="add `seeds 3` (or more)",
        )


def _check_size(plan: Plan) -> Iterator[Diagnostic]:
    number = len(plan.arms) * len(plan.seeds)
    if number > MAX_PIPELINES:
        names = len({arm.name for arm in plan.arms})
        yield Diagnostic(
            "TD513",
            f"{number} pipelines: {len(plan.arms)} combinations of {names} arm{'s' * (names != 1)} and sweeps, "
            f"under {len(plan.seeds)} seed{'s' * (len(plan.seeds) != 1)}",
            plan.arms[0].span,
            help="`--set NAME=VALUE` runs a slice of a sweep; `tickdsl plan` shows what is shared",
        )


def _check_baseline(plan: Plan) -> Iterator[Diagnostic]:
    """Rewound weights claim a ticket; only a rival without them can deny it."""
    if plan.compare_span is None or {"random-init", "random-structure"} & set(plan.rivals):
        return
    for arm in plan.arms:
        for tail in itertools.chain.from_iterable(group.tail for group in arm.rounds):
            if isinstance(tail, Rewind) and tail.what == "weights":
                yield Diagnostic(
                    "TD508",
                    "no rival shows whether the rewound weights matter: the same structure with fresh weights may do "
                    "as well",
                    plan.compare_span,
                    secondary=(Label(tail.span, f"arm `{arm.name}` claims a ticket"),),
                    help="add `random-init` (fresh weights) or `random-structure` (another choice)",
                )
                return


def _check_random_structure(plan: Plan) -> Iterator[Diagnostic]:
    if "random-structure" not in plan.rivals:
        return
    for arm in plan.arms:
        drawn = [group.prune for group in arm.rounds if group.prune.by == "random"]
        if drawn and len(drawn) == len(arm.rounds):
            yield Diagnostic(
                "TD515",
                "`random-structure` sets a random choice against a random choice",
                plan.compare_span or arm.span,
                secondary=(Label(drawn[0].by_span or drawn[0].span, f"arm `{arm.name}` chooses at random"),),
                help="compare with `random-init`, or choose by another criterion",
            )
            return


def _pairs(plan: Plan) -> Iterator[tuple[Arm, Arm]]:
    """Arms of unlike names under one binding of the sweeps that both read."""
    if len(plan.arms) > MAX_PIPELINES:
        return  # so many arms are a grid, not a comparison
    for one, other in itertools.combinations(plan.arms, 2):
        common = one.sweep.keys() & other.sweep.keys()
        if one.name != other.name and all(one.sweep[name] == other.sweep[name] for name in common):
            yield one, other


def _check_budgets(plan: Plan) -> Iterator[Diagnostic]:
    for one, other in _pairs(plan):
        if _evaluation_data(one) != _evaluation_data(other):
            continue
        first, second = retraining_length(one), retraining_length(other)
        if first is None or second is None or first.unit != second.unit:
            continue
        if abs(first.amount - second.amount) > TOLERANCE * max(first.amount, second.amount):
            yield Diagnostic(
                "TD509",
                f"arm `{one.name}` trains {first.brief} behind its last prune, arm `{other.name}` {second.brief}",
                other.span,
                secondary=(Label(one.span, "compared with this"),),
                help="give both the same length, or say that this is the question: `# ok TD509`",
            )
            return


def _check_data(plan: Plan) -> Iterator[Diagnostic]:
    for one, other in _pairs(plan):
        first, second = _evaluation_data(one), _evaluation_data(other)
        if first.name != second.name:
            yield Diagnostic(
                "TD516",
                f"arm `{one.name}` ends on {first.name}, arm `{other.name}` on {second.name}: "
                "their accuracies are not comparable",
                second.span,
                secondary=(Label(first.span, "the other data set"),),
                help="read each against its own dense network, or use one data set",
            )
            return


def _evaluation_data(arm: Arm) -> Data:
    """The data that its levels are trained and tested on in the end."""
    return arm.data if arm.transfer is None else arm.transfer.data
