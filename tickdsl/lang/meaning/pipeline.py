"""Resolve the pipeline of an arm to rounds: each prune with the statements that follow it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Collection, Iterable, Sequence

import attrs

from tickdsl.lang import syntax
from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.lang.meaning import after_prune, prune_clauses, training_cycles
from tickdsl.lang.meaning.arm_context import ArmContext
from tickdsl.lang.meaning.elastic import elastic as resolve_elastic
from tickdsl.lang.meaning.values import InvalidValueError, ValueReader
from tickdsl.lang.writing.cycles import is_single_round, joins_next
from tickdsl.plan import model
from tickdsl.plurals import plural


@attrs.frozen
class Pipeline:
    """The rounds of an arm, and the other network and the other data that each level is measured with, if any.

    cycles: rounds of training alone, before the first prune.
    shared: how many rounds the statements before the arms begin, and how many statements of the last one's tail and how
    many of its cycles they hold; if they begin none, how many of `cycles`.
    """

    rounds: tuple[model.Rounds, ...]
    cycles: tuple[model.TrainingCycle, ...] = ()
    transfer: model.Transfer | None = None
    elastic: model.Elastic | None = None
    shared: tuple[int, int, int] = (0, 0, 0)


def resolve(
    statements: Iterable[syntax.Statement],
    context: ArmContext,
    shared: Collection[syntax.Statement] = (),
    shared_context: ArmContext | None = None,
) -> Pipeline:
    """Resolve the pipeline statements of an arm; wrong statements are reported and left out.

    shared: the first of the statements, which are resolved with the settings of `shared_context` (default: `context`).
    """
    statements = list(statements)
    ends = [n for n, s in enumerate(statements) if isinstance(s, syntax.Elastic | syntax.Transfer)] or [len(statements)]
    before, ending = statements[: ends[0]], statements[ends[0] :]
    _check_ending(ending, context.reader)
    transfer, elastic = None, None
    for statement in ending[:2]:
        with contextlib.suppress(InvalidValueError):
            if isinstance(statement, syntax.Transfer) and transfer is None:
                transfer = after_prune.transfer(statement, context)
            elif isinstance(statement, syntax.Elastic) and elastic is None:
                elastic = resolve_elastic(statement, context)
    begun = _rounds(before[: len(shared)], shared_context or context)
    whole = _rounds(before[len(shared) :], context, after=begun, follows=before[: len(shared)])
    rounds = whole.rounds
    _check_settling(rounds, context.reader)
    _check_training_before(rounds, context.reader)
    if ending and not any(map(_prunes, before)):
        _report_misplaced(ending[0], context.reader)
    last = begun.rounds[-1] if begun.rounds else None
    shared_parts = (len(begun.rounds), len(last.tail), len(last.cycles)) if last else (0, 0, len(begun.cycles))
    return Pipeline(rounds, whole.cycles, transfer, elastic, shared_parts)


def _prunes(statement: syntax.Statement) -> bool:
    if isinstance(statement, syntax.Cycle):
        return not training_cycles.trains_only(statement)
    return isinstance(statement, syntax.Prune)


def _check_ending(ending: Sequence[syntax.Statement], reader: ValueReader) -> None:
    """Report what follows a `transfer`, or a `stretch` or `squeeze` except one: they end the pipeline."""
    for first, statement in itertools.pairwise(ending):
        if isinstance(first, syntax.Elastic) and isinstance(statement, syntax.Transfer):
            continue
        keyword = first.span.text.split()[0]
        if isinstance(first, syntax.Transfer):
            what, help = f"a `{keyword}`", "to train the ticket on the new data, use `transfer to … { retrain … }`"
        else:
            what, help = f"a `{keyword}` except `transfer`", f"move it before the `{keyword}`"
        reader.report(
            Diagnostic(
                "TD007",
                f"no statement can follow {what}, which ends the pipeline",
                statement.span,
                secondary=(Label(first.span, f"the {keyword}"),),
                help=help,
            )
        )
        return


def sets_training(group: model.Rounds) -> bool:
    """Whether a training is pending after a round: one that its tail sets, or the rest of one that it interrupts."""
    pending = group.prune.at is not None and group.prune.settles is None and not group.cycles
    for tail in group.last_tail:
        match tail:
            case model.Rewind() | model.Retrain():
                pending = True
            case model.Grow():
                pending = False
    return pending


def _check_training_before(rounds: Sequence[model.Rounds], reader: ValueReader) -> None:
    """Report prunes that need a training before them and have none, or one that `evolve` changes."""
    for index, group in enumerate(rounds):
        prune = group.prune
        repeated = [attrs.evolve(group, cycles=())] if (prune.times or 2) > 1 else []
        before = [*rounds[:index][-1:], *repeated]
        during = _during_training(prune)
        if during is None:
            continue
        for other in before:
            evolving = next((tail for tail in other.last_tail if isinstance(tail, model.Evolve)), None)
            if evolving is not None and evolving is other.last_tail[-1]:
                reader.report(
                    Diagnostic(
                        "TD455",
                        f"{during} cannot prune in a training in which `evolve` changes the masks",
                        prune.span,
                        secondary=(Label(evolving.span, "changes them here"),),
                        help="remove one of them, or prune at the end of that training",
                    )
                )
                break
            if prune.at is None and prune.settles is None and not sets_training(other):
                message = f"{during} needs a training before this prune"
                help = "add `rewind lr`, `rewind weights` or `retrain …` after the previous prune"
                reader.report(Diagnostic("TD007", message, prune.span, help=help))
                break


def _during_training(prune: model.Prune) -> str | None:
    """The clause by which a prune takes place within a training, if it does."""
    if prune.gradual is not None:
        return "`from … to … every …`"
    if isinstance(prune.via, model.Zeroing):
        return "`via zeroing`"
    if prune.settles is not None:
        return "`until mask-distance`"
    return "`at`" if prune.at is not None and prune.at.amount else None


def _check_settling(rounds: Iterable[model.Rounds], reader: ValueReader) -> None:
    """Report every `until mask-distance` without a training before its prune."""
    for before, group in itertools.pairwise(rounds):
        goes_on_training = before.prune.at is not None and before.prune.settles is None
        trains = goes_on_training or any(isinstance(t, model.Rewind | model.Retrain) for t in before.last_tail)
        if group.prune.settles is not None and not trains:
            message = "`until mask-distance` needs a training before this prune"
            help = "add `rewind lr`, `rewind weights` or `retrain …` after the previous prune"
            reader.report(Diagnostic("TD007", message, group.prune.span, help=help))


@attrs.frozen
class _Rounds:
    """The rounds of statements, and the cycles of training alone before them."""

    cycles: tuple[model.TrainingCycle, ...] = ()
    rounds: tuple[model.Rounds, ...] = ()


_NONE = _Rounds()


def _rounds(
    statements: Iterable[syntax.Statement],
    context: ArmContext,
    *,
    inside_cycle: bool = False,
    after: _Rounds = _NONE,
    follows: Iterable[syntax.Statement] = (),
) -> _Rounds:
    """The rounds `after`, which the statements `follows` resolve to, with those of further statements."""
    cycles, rounds = list(after.cycles), list(after.rounds)
    reader = context.reader
    starts = [statement for statement in follows if isinstance(statement, syntax.Prune | syntax.Cycle)]
    has_prune = any(map(_prunes, starts))
    cycle = starts[-1] if starts and isinstance(starts[-1], syntax.Cycle) else None
    for statement in statements:
        try:
            match statement:
                case syntax.Prune():
                    has_prune, cycle = True, None
                    rounds.append(model.Rounds(prune_clauses.prune(statement, context)))
                case syntax.Cycle() if training_cycles.trains_only(statement):
                    if not has_prune and inside_cycle:
                        raise _report_misplaced(statement, reader)
                    cycle = statement
                    added = training_cycles.resolve(statement, context, is_dense=not has_prune)
                    if rounds:
                        rounds[-1] = attrs.evolve(rounds[-1], cycles=(*rounds[-1].cycles, added))
                    elif not has_prune:
                        cycles.append(added)
                case syntax.Cycle():
                    has_prune, cycle = True, statement
                    rounds += _cycle(statement, context)
                case syntax.Transfer() | syntax.Elastic():
                    keyword = statement.span.text.split()[0]
                    message = f"`{keyword}` cannot be used inside a `cycle`: it ends the pipeline"
                    reader.report(Diagnostic("TD007", message, statement.span, help="move it after the `cycle`"))
                case (
                    syntax.Overlap() | syntax.Union() | syntax.Refill() | syntax.Regroup() | syntax.Recalibrate()
                    | syntax.Grow() | syntax.Rewind() | syntax.Perturb() | syntax.Retrain() | syntax.Distill()
                    | syntax.Evolve()
                ):  # fmt: skip
                    if not has_prune and cycle is None:
                        raise _report_misplaced(statement, reader, suggest_cycle=not inside_cycle)
                    tail = _tail(statement, rounds, context)
                    if cycle is not None and (rounds or not has_prune):
                        raise _report_after_cycle(statement, cycle, reader)
                    if not rounds:
                        raise InvalidValueError
                    after_prune.check_order(rounds[-1].tail, tail, reader)
                    if not sets_training(rounds[-1]):
                        after_prune.require_training(tail, "after this prune", reader)
                    rounds[-1] = attrs.evolve(rounds[-1], tail=(*rounds[-1].tail, tail))
                case _:  # everywhere else, other statements are reported before
                    _report_not_in_cycle(statement, reader)
        except InvalidValueError:
            continue
    return _Rounds(tuple(cycles), tuple(rounds))


def _tail(statement: syntax.Statement, rounds: list[model.Rounds], context: ArmContext) -> model.Tail:
    """Resolve a statement of a round. Raises InvalidValueError, after reporting it, if it is wrong."""
    try:
        return after_prune.tail(statement, context)
    except InvalidValueError:
        if isinstance(statement, syntax.Grow) and rounds:  # what follows still comes after a `grow`
            grown = model.Grow("weights", None, "magnitude", span=statement.span)
            rounds[-1] = attrs.evolve(rounds[-1], tail=(*rounds[-1].tail, grown))
        raise


def _report_misplaced(
    statement: syntax.Statement, reader: ValueReader, *, suggest_cycle: bool = False
) -> InvalidValueError:
    keyword = statement.span.text.split()[0]
    message = f"`{keyword}` must come after a `prune`{' (or inside a `cycle`)' if suggest_cycle else ''}"
    help = "move it after the `prune` that it applies to"
    reader.report(Diagnostic("TD301", message, statement.span, help=help))
    return InvalidValueError()


def _report_not_in_cycle(statement: syntax.Statement, reader: ValueReader) -> None:
    keyword = statement.span.text.split()[0]
    match statement:
        case syntax.Train():
            help = "use `retrain SCHEDULE …` to train by another recipe than the arm's"
        case syntax.Model() | syntax.Data() | syntax.Split():
            help = "move it before the `cycle`, or into an arm of its own"
        case _:
            help = "move it to the top level of the plan"
    reader.report(Diagnostic("TD007", f"`{keyword}` cannot be used inside a `cycle`", statement.span, help=help))


def _report_after_cycle(statement: syntax.Statement, cycle: syntax.Cycle, reader: ValueReader) -> InvalidValueError:
    reader.report(
        Diagnostic(
            "TD007",
            f"`{statement.span.text.split()[0]}` after a `cycle` belongs to none of its rounds",
            statement.span,
            secondary=(Label(cycle.span, "the cycle"),),
            help="move it inside the braces",
        )
    )
    return InvalidValueError()


def _cycle(statement: syntax.Cycle, context: ArmContext) -> tuple[model.Rounds, ...]:
    """The rounds of a cycle: consecutive prunes of its body, with nothing between them, form one round."""
    reader = context.reader
    body = _rounds(statement.body, context, inside_cycle=True).rounds
    body = (*(attrs.evolve(group, joined=joins_next(group)) for group in body[:-1]), *body[-1:])
    times = prune_clauses.times(statement.times, reader)
    if times * len(body) > prune_clauses.MAX_ROUNDS:
        message = f"{times} × {plural(len(body), 'round')} exceed the limit of {prune_clauses.MAX_ROUNDS:,} rounds"
        raise reader.report_error("TD207", message, statement.times, help="use fewer rounds")
    if not statement.body:
        reader.report(Diagnostic("TD002", "this `cycle` is empty", statement.span, help="add a `prune`"))
    if len(body) == 1 and is_single_round(body[0].prune) and not body[0].cycles:
        return (attrs.evolve(body[0], prune=attrs.evolve(body[0].prune, times=times)),)
    return tuple(itertools.chain.from_iterable(itertools.repeat(body, times)))
