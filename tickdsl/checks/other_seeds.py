"""Check what is taken from other seeds, noise and rewound signs, and the networks that `report` compares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeGuard

from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.lang.syntax import Span
from tickdsl.plan.between_networks import ENSEMBLE
from tickdsl.plan.linked_seeds import linked
from tickdsl.plan.model import (
    MASK_OVERLAP,
    MIN_SEEDS,
    NEXT_SEED,
    Arm,
    FromSeed,
    Line,
    MaskOf,
    Perturb,
    Plan,
    Rewind,
    Rounds,
    Tail,
)


def diagnostics(arm: Arm) -> Iterator[Diagnostic]:
    """Yield findings about the statements of an arm that change weights or take something from another seed."""
    cycles = [*arm.cycles, *(cycle for group in arm.distinct_rounds.values() for cycle in group.cycles)]
    for tail in arm.distinct_tails:
        yield from _check_parts(arm, tail)
    if cycles and arm.split is not None:
        yield _of_parts("a `cycle` without a prune", arm, cycles[0].span)
    for index, group in arm.distinct_rounds.items():
        for tails in (group.tail, *(cycle.tail for cycle in group.cycles)):
            for number, tail in enumerate(tails):
                if _takes(tail):
                    yield from _check_units(arm, index, tail, tails[number + 1 :])


def _check_parts(arm: Arm, tail: Tail) -> Iterator[Diagnostic]:
    """Check that weights are changed in one network, and not in the parts of one (TD542)."""
    if arm.split is None:
        return
    match tail:
        case Perturb():
            yield _of_parts("`perturb`", arm, tail.span)
        case MaskOf():
            yield _of_parts("`rewind mask`", arm, tail.span)
        case Rewind(what=what) if what in ("signs", "magnitudes") or tail.of:
            yield _of_parts(f"`rewind {what}{' of …' if tail.of else ''}`", arm, tail.span)


def _of_parts(statement: str, arm: Arm, span: Span) -> Diagnostic:
    assert arm.split is not None
    return Diagnostic(
        "TD542",
        f"{statement} cannot be combined with `split`: the ticket of the parts is trained from the dense run's weights",
        span,
        secondary=(Label(arm.split.span, "split here"),),
        help="remove one of them",
    )


def _check_units(arm: Arm, index: int, tail: FromSeed, after: tuple[Tail, ...]) -> Iterator[Diagnostic]:
    """Check that what is taken from another seed fits a network that has lost other units (TD546)."""
    removing = [group for group in arm.rounds[: index + 1] if group.prune.unit != "weights"]
    restores = any(isinstance(each, Rewind) and each.what == "weights" and not each.current for each in after)
    from_dense_run = restores if isinstance(tail, MaskOf) else not tail.current
    if not removing:
        return

    def wrong(group: Rounds, message: str, help: str) -> Diagnostic:
        label = Label(group.prune.span, f"removes {group.prune.unit}")
        return Diagnostic("TD546", message, tail.span, secondary=(label,), help=help)

    unit, what = removing[0].prune.unit, "mask" if isinstance(tail, MaskOf) else tail.what
    in_layers = next((group for group in removing if group.prune.unit == "layers"), None)
    if not from_dense_run:
        yield wrong(
            removing[0],
            f"`rewind {what} of …` takes it from a network that has lost other {unit}",
            "prune weights, or restore weights of the dense run: `rewind mask of …; rewind weights to …`",
        )
    elif tail.align == "current":
        yield wrong(
            removing[0],
            f"`align=current` matches networks that have lost different {unit}",
            "use `align=dense`, which matches the dense networks, or prune weights",
        )
    elif tail.align and in_layers is not None:
        yield wrong(
            in_layers,
            f"`align=` reorders the units of each layer, but removing {in_layers.prune.unit} joins those of several",
            "remove `align=`, or prune filters or weights",
        )


def _takes(tail: Tail) -> TypeGuard[FromSeed]:
    """Whether a statement takes something from another seed or run."""
    return isinstance(tail, Rewind | MaskOf) and bool(tail.of or (isinstance(tail, MaskOf) and tail.run))


def plan_diagnostics(plan: Plan) -> Iterator[Diagnostic]:
    """Yield findings about the seeds that arms take something from, and about comparisons of networks."""
    for arm in plan.arms:
        taking = [tail for tail in arm.tails if isinstance(tail, Rewind | MaskOf) and tail.of]
        yield from _check_seeds(plan, arm, taking)
    yield from _check_similarities(plan)
    if ENSEMBLE in plan.metrics and len(plan.seeds) == 1:
        yield Diagnostic(
            "TD471",
            "`report ensemble` averages the outputs of all seeds, but the plan has only one",
            plan.report_span or plan.arms[0].span,
            help="use `seeds 3` (or more), or remove `ensemble`",
        )
    for line in plan.lines:
        yield from _check_line(plan, line)


def _check_seeds(plan: Plan, arm: Arm, taking: list[FromSeed]) -> Iterator[Diagnostic]:
    """Check that there is another seed (TD544), that it is another one (TD545), and what that means (TD549)."""
    for tail in taking:
        if tail.of == NEXT_SEED and len(plan.seeds) == 1:
            yield Diagnostic(
                "TD544",
                "there is no next seed: the plan has only one",
                tail.span,
                help="use `seeds 3` or more, or name a seed: `of seed 2`",
            )
            return
        if tail.of != NEXT_SEED and int(tail.of) in plan.seeds:
            yield Diagnostic(
                "TD545",
                f"under seed {tail.of} itself, `of seed {tail.of}` takes nothing from another network",
                tail.span,
                help=f"leave seed {tail.of} out of `seeds`, or use `of next seed`",
            )
            break
    sentence = linked(arm, plan.seeds)
    if sentence and len(plan.seeds) >= MIN_SEEDS:
        place = next(tail.span for tail in arm.tails if _takes(tail))
        yield Diagnostic("TD549", sentence, place, help="read its intervals with that in mind, and add `# ok TD549`")


def _check_similarities(plan: Plan) -> Iterator[Diagnostic]:
    """Check that there are two seeds to compare (TD547)."""
    between = [f"`{line}`" for line in plan.lines if not line.end]
    between += [f"`{MASK_OVERLAP}`"] if MASK_OVERLAP in plan.metrics else []
    if between and len(plan.seeds) == 1:
        yield Diagnostic(
            "TD547",
            f"{between[0]} compares each seed with the next one, and the plan has only one",
            plan.report_span or plan.arms[0].span,
            help="use `seeds 2` or more, or leave it out",
        )


def _check_line(plan: Plan, line: Line) -> Iterator[Diagnostic]:
    """Check that a line joins networks of the same shape that are measured (TD548)."""
    pairs = list(plan.line_ends(line))

    def wrong(message: str, help: str, *secondary: Label) -> Diagnostic:
        return Diagnostic("TD548", f"`{line}` {message}", line.span, secondary=secondary, help=help)

    if not pairs:
        yield wrong("measures nothing: these arms are not compared, or share no values of a sweep", "compare both arms")
    for arm, end in pairs:
        other = arm if isinstance(end, str) else end
        if (arm.model, arm.judged_on) != (other.model, other.judged_on):
            yield wrong(
                f"joins networks of different models or data: {arm.model.name} on {arm.judged_on.name} and "
                f"{other.model.name} on {other.judged_on.name}",
                "compare arms with the same network and data",
            )
            return
        removing = [] if line.start == "dense" and not line.end else [*_removing(arm), *_removing(other)]
        if removing:
            prune = removing[0].prune
            label = Label(prune.span, f"removes {prune.unit}")
            yield wrong("joins networks that have lost different units", "compare arms that prune weights", label)
            return


def _removing(arm: Arm) -> list[Rounds]:
    return [group for group in arm.rounds if group.prune.unit != "weights"]
