"""Check how the arms of a plan compare: seeds, controls, budgets and data."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction

import attrs

from tickdsl.checks.budgets import total_epochs
from tickdsl.checks.schedules import arm_steps_per_epoch, retraining_length
from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.lang.vocabulary import is_test_result
from tickdsl.moments import Moment
from tickdsl.plan.model import MIN_SEEDS, Arm, Data, Plan, Retrain, Rewind, as_json
from tickdsl.plan.prune_arguments import has_one_scope
from tickdsl.plurals import plural
from tickdsl.records.canonical import canonical_json
from tickdsl.training.catalogue import holds_out_validation
from tickdsl.training.recipes.recipe import Recipe

#: Warn if a plan has more pipelines (arms × seeds) than this.
MAX_PIPELINES = 100
#: Training lengths count as equal if they differ by at most this share.
TOLERANCE = Fraction(1, 10)


def diagnostics(plan: Plan) -> list[Diagnostic]:
    """Findings about how the arms of a plan compare; `plan.arms` must be complete."""
    return [
        *_check_seeds(plan),
        *_check_stops(plan),
        *_check_size(plan),
        *_check_baseline(plan),
        *_check_random_structure(plan),
        *_check_fresh_weights(plan),
        *_check_identical(plan),
        *_check_budgets(plan),
        *_check_data(plan),
    ]


def _check_seeds(plan: Plan) -> Iterator[Diagnostic]:
    if len(plan.seeds) < MIN_SEEDS:
        number = "one seed" if len(plan.seeds) == 1 else plural(len(plan.seeds), "seed")
        yield Diagnostic(
            "TD505",
            f"only {number}: differences of a few tenths of a point are noise, so no verdict is given",
            plan.arms[0].span,
            help=f"use `seeds {MIN_SEEDS}` (or more)",
        )


def _check_stops(plan: Plan) -> Iterator[Diagnostic]:
    """Seeds that end by their test results leave the lucky ones to be judged; validation data decide in their place."""
    if all(holds_out_validation(arm.judged_on.name, arm.judged_on.options) for arm in plan.arms):
        return
    ends = (group.prune.ends for arm in plan.arms for group in arm.rounds)
    conditions = dict.fromkeys([*plan.stops, *(condition for condition in ends if condition is not None)])
    for condition in conditions:
        if is_test_result(condition.metric) and len(plan.seeds) >= MIN_SEEDS:
            yield Diagnostic(
                "TD543",
                f"`{condition.metric} {condition.comparison} …` ends each seed by its {condition.metric} on the test "
                "set: rounds that not all seeds reach get no verdict",
                condition.span or plan.arms[0].span,
                help="end by a size (`sparsity`, `params`, `flops`), hold out data to decide (`data … validation=10%`)"
                ", or add `# ok TD543`",
            )


def _check_size(plan: Plan) -> Iterator[Diagnostic]:
    number = len(plan.arms) * len(plan.seeds)
    if number > MAX_PIPELINES:
        names = len({arm.name for arm in plan.arms})
        sweeps = f", expanded to {len(plan.arms)} by sweeps," if names < len(plan.arms) else ""
        yield Diagnostic(
            "TD513",
            f"{number:,} pipelines: {plural(names, 'arm')}{sweeps} × {plural(len(plan.seeds), 'seed')}",
            plan.arms[0].span,
            help="run part of a sweep with `--set NAME=VALUE`; `tickdsl plan` shows which steps are shared",
        )


def _check_baseline(plan: Plan) -> Iterator[Diagnostic]:
    """Rewound weights claim to be a winning ticket, which only a control can refute."""
    if plan.compare_span is None or {"random-init", "random-structure", "shuffled-mask"} & set(plan.rivals):
        return
    for arm in plan.arms:
        for tail in arm.tails:
            if isinstance(tail, Rewind) and tail.what == "weights":
                yield Diagnostic(
                    "TD508",
                    "no control shows whether the rewound weights matter: fresh weights in the same structure may do "
                    "as well",
                    plan.compare_span,
                    secondary=(Label(tail.span, f"arm `{arm.name}` rewinds its weights here"),),
                    help="compare with `random-init` (fresh weights) or `random-structure` (another structure)",
                )
                return


def _check_random_structure(plan: Plan) -> Iterator[Diagnostic]:
    control = next((name for name in ("random-structure", "shuffled-mask") if name in plan.rivals), None)
    if control is None:
        return
    if control == "random-structure":
        yield from _check_equal_cost(plan)
    for arm in plan.arms:
        drawn = [group.prune for group in arm.rounds if group.prune.by == "random"]
        if drawn and len(drawn) == len(arm.rounds):
            yield Diagnostic(
                "TD515",
                f"`{control}` compares one random structure with another",
                plan.compare_span or arm.span,
                secondary=(Label(drawn[0].by_span or drawn[0].span, f"arm `{arm.name}` prunes at random"),),
                help="compare with `random-init`, or prune by another criterion",
            )
            return


def _check_equal_cost(plan: Plan) -> Iterator[Diagnostic]:
    """Check that a random structure can be drawn that has the FLOPs or parameters of the tickets (TD438)."""
    if plan.rival_match == "units":
        return
    for arm in plan.arms:
        masking = [group.prune for group in arm.rounds if group.prune.unit == "weights"]
        if masking and plan.rival_match == "flops":
            yield Diagnostic(
                "TD438",
                "`match=flops` says nothing about masks, which save no multiply-adds",
                plan.compare_span or arm.span,
                secondary=(Label(masking[0].span, f"arm `{arm.name}` masks weights"),),
                help="use `match=params`, or leave it out",
            )
            return
        if not has_one_scope(arm.rounds):
            other = next(group.prune for group in arm.rounds if not has_one_scope((arm.rounds[0], group)))
            yield Diagnostic(
                "TD438",
                f"`match={plan.rival_match}` draws units of one kind, but arm `{arm.name}` prunes several, or in other "
                "layers",
                plan.compare_span or arm.span,
                secondary=(Label(other.span, "another unit, or other layers"),),
                help="leave out `match=`: then the control has as many units in every layer",
            )
            return


def _check_fresh_weights(plan: Plan) -> Iterator[Diagnostic]:
    """Find the control `random-init` in a plan whose arms all do what it does (TD515): `retrain scratch`."""
    starts = [tail for arm in plan.arms for tail in _fresh_starts(arm)]
    if "random-init" in plan.rivals and all(_fresh_starts(arm) for arm in plan.arms):
        yield Diagnostic(
            "TD515",
            "`random-init` trains fresh weights, and so does `retrain scratch`: their results are equal",
            plan.compare_span or plan.arms[0].span,
            secondary=(Label(starts[0].span, "fresh weights here"),),
            help="leave out `random-init`, or compare with an arm that keeps its weights",
        )


def _fresh_starts(arm: Arm) -> list[Retrain]:
    """The `retrain scratch` of every round, if all rounds train fresh weights by the whole recipe."""
    tails = [group.tail for group in arm.rounds if not group.joined]
    fresh = [tail for each in tails for tail in each if isinstance(tail, Retrain) and tail.fresh]
    same = len(fresh) == len(tails) and all(tail.recipe == arm.recipe for tail in fresh)
    return fresh if same and arm.transfer is None else []


def _check_identical(plan: Plan) -> Iterator[Diagnostic]:
    """Find arms that are the same in all but their names (TD522)."""
    seen: dict[bytes, Arm] = {}
    for arm in plan.arms:
        others = [other.id for name in arm.referenced_arms if (other := plan.find_arm(name, arm)) is not None]
        described = canonical_json(
            [others, as_json(attrs.evolve(_with_rewinds_in_steps(arm), id="", name="", sweep={}))]
        )
        first = seen.setdefault(described, arm)
        if first is not arm:
            yield Diagnostic(
                "TD522",
                f"arms `{first.id}` and `{arm.id}` are the same: their results are equal",
                arm.span,
                secondary=(Label(first.span, "the other arm"),) if first.span != arm.span else (),
                help="change or remove one of them",
            )
            return


def _with_rewinds_in_steps(arm: Arm) -> Arm:
    """The arm with the moments of its rewinds in steps, if they are known: `50%` of 4 epochs is `2ep`."""
    per_epoch = arm_steps_per_epoch(arm)
    try:
        total = Recipe.from_dict(arm.recipe).steps(per_epoch) if per_epoch else None
    except ValueError:
        return arm  # found as TD305
    if per_epoch is None or total is None:
        return arm
    groups = [
        group
        if any(isinstance(tail, Retrain) for tail in group.tail)  # the moment is one of its own length
        else attrs.evolve(
            group,
            tail=tuple(
                attrs.evolve(tail, to=Moment(Fraction(tail.to.steps(per_epoch, total)), "it"))
                if isinstance(tail, Rewind)
                else tail
                for tail in group.tail
            ),
        )
        for group in arm.rounds
    ]
    return attrs.evolve(arm, rounds=tuple(groups))


def _pairs(plan: Plan) -> Iterator[tuple[Arm, Arm]]:
    """Yield pairs of different arms with equal values of the sweeps that both use."""
    if len(plan.arms) > MAX_PIPELINES:
        return  # this many arms are a grid search, not a comparison
    for first, second in itertools.combinations(plan.arms, 2):
        common = first.sweep.keys() & second.sweep.keys()
        if first.name != second.name and all(first.sweep[name] == second.sweep[name] for name in common):
            yield first, second


def _check_budgets(plan: Plan) -> Iterator[Diagnostic]:
    totals = {arm.id: total_epochs(arm) for arm in plan.arms} if len(plan.arms) <= MAX_PIPELINES else {}
    for first, second in _pairs(plan):
        if _evaluation_data(first) != _evaluation_data(second) or not (first.has_levels and second.has_levels):
            continue
        length, other_length = retraining_length(first), retraining_length(second)
        if (
            first.rounds
            and second.rounds
            and length is not None
            and other_length is not None
            and length.unit == other_length.unit
            and _differ(length.amount, other_length.amount)
        ):
            yield _budget_diagnostic(first, second, "after the last prune", length.brief, other_length.brief)
            return
        total, other_total = (totals[arm.id] for arm in (first, second))
        if total is not None and other_total is not None and _differ(total, other_total):
            lengths = (Moment(each, "ep").brief for each in (total, other_total))
            yield _budget_diagnostic(first, second, "over all rounds", *lengths)
            return


def _differ(first: Fraction, second: Fraction) -> bool:
    return abs(first - second) > TOLERANCE * max(first, second)


def _budget_diagnostic(first: Arm, second: Arm, when: str, length: str, other_length: str) -> Diagnostic:
    return Diagnostic(
        "TD509",
        f"{when}, arm `{first.name}` trains for {length} and arm `{second.name}` for {other_length}",
        second.span,
        secondary=(Label(first.span, "compared with this arm"),),
        help="use equal lengths, or add `# ok TD509` if the difference is intended",
    )


def _check_data(plan: Plan) -> Iterator[Diagnostic]:
    for first, second in _pairs(plan):
        data, other_data = _evaluation_data(first), _evaluation_data(second)
        if data.name != other_data.name:
            yield Diagnostic(
                "TD516",
                f"arm `{first.name}` is tested on {data.name} and arm `{second.name}` on {other_data.name}: "
                "their accuracies are not comparable",
                other_data.span,
                secondary=(Label(data.span, "the other data set"),),
                help="compare each arm with its own dense network, or use one data set",
            )
            return


def _evaluation_data(arm: Arm) -> Data:
    """The data that the arm's tickets are trained and tested on."""
    return arm.data if arm.transfer is None else arm.transfer.data
