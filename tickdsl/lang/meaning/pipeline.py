"""Pipeline statements to rounds: each prune with the tail that follows it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any, TypeVar

import attrs

from tickdsl.lang import syntax, vocabulary
from tickdsl.lang.findings.diagnostics import Diagnostic, Label, join_or
from tickdsl.lang.meaning import after_prune
from tickdsl.lang.meaning.after_prune import ArmContext
from tickdsl.lang.meaning.default_notes import DefaultsReporter
from tickdsl.lang.meaning.values import InvalidValueError, ValueReader, report_unsupported
from tickdsl.lang.writing.cycles import is_single_round, joins_next
from tickdsl.lang.writing.literals import format_value, percent
from tickdsl.moments import Moment
from tickdsl.plan import model

T = TypeVar("T")

#: More rounds than this in one arm are a slip.
MAX_ROUNDS = 10_000


@attrs.frozen
class Pipeline:
    """The rounds of an arm, and the data on which its levels are judged, where those are others."""

    rounds: tuple[model.Rounds, ...]
    transfer: model.Transfer | None = None


def resolve(statements: Iterable[syntax.Statement], context: ArmContext) -> Pipeline:
    """The pipeline that the statements mean; what is wrong is reported through the reader and left out."""
    statements = list(statements)
    transfers = [statement for statement in statements if isinstance(statement, syntax.Transfer)]
    for statement in statements[statements.index(transfers[0]) + 1 :][:1] if transfers else ():
        context.reader.report(
            Diagnostic(
                "TD007",
                "a transfer ends the pipeline: every level is judged on the other data",
                statement.span,
                secondary=(Label(transfers[0].span, "the transfer"),),
                help="say how the ticket is trained there in braces: `transfer to … { retrain … }`",
            )
        )
    transfer = None
    for statement in transfers[:1]:
        with contextlib.suppress(InvalidValueError):
            transfer = after_prune.transfer(statement, context)
    before = statements[: statements.index(transfers[0])] if transfers else statements
    rounds = _rounds(before, context)
    _check_settling(rounds, context.reader)
    if transfers and not any(isinstance(statement, syntax.Prune | syntax.Cycle) for statement in before):
        _misplaced_error(transfers[0], context.reader)
    return Pipeline(rounds, transfer)


def _check_settling(rounds: Iterable[model.Rounds], reader: ValueReader) -> None:
    """Whether there is a training in which each choice that is waited for can settle."""
    for before, group in itertools.pairwise(rounds):
        goes_on_training = before.prune.at is not None and before.prune.settles is None
        trains = goes_on_training or any(isinstance(t, model.Rewind | model.Retrain) for t in before.tail)
        if group.prune.settles is not None and not trains:
            message = "a choice settles in the training before its prune, and there is none"
            help = "put `rewind lr`, `rewind weights` or `retrain …` behind the prune before it"
            reader.report(Diagnostic("TD007", message, group.prune.span, help=help))


def _rounds(statements: Iterable[syntax.Statement], context: ArmContext) -> tuple[model.Rounds, ...]:
    rounds: list[model.Rounds] = []
    reader = context.reader
    opened = False
    cycle: syntax.Cycle | None = None
    for statement in statements:
        try:
            match statement:
                case syntax.Prune():
                    opened, cycle = True, None
                    rounds.append(model.Rounds(prune(statement, context)))
                case syntax.Cycle():
                    opened, cycle = True, statement
                    rounds += _cycle(statement, context)
                case syntax.Transfer():
                    help = "put it behind the cycle: every level is judged there"
                    reader.report(Diagnostic("TD007", "a transfer ends the pipeline", statement.span, help=help))
                case _:
                    if not opened:
                        raise _misplaced_error(statement, reader)
                    tail = after_prune.tail(statement, context)
                    if not rounds:
                        raise InvalidValueError
                    if cycle is not None:
                        raise _after_cycle_error(statement, cycle, reader)
                    after_prune.check_order(rounds[-1].tail, tail, reader)
                    _check_distillation(rounds[-1], tail, reader)
                    rounds[-1] = attrs.evolve(rounds[-1], tail=(*rounds[-1].tail, tail))
        except InvalidValueError:
            continue
    return tuple(rounds)


def _check_distillation(group: model.Rounds, tail: model.Tail, reader: ValueReader) -> None:
    """Whether there is a training that a teacher can take part in."""
    trains = any(isinstance(each, model.Rewind | model.Retrain) for each in group.tail)
    if isinstance(tail, model.Distill) and not trains and group.prune.at is None:
        message = "`distill` adds to the training behind this prune, and there is none"
        help = "put `rewind lr`, `rewind weights` or `retrain …` before it"
        reader.report(Diagnostic("TD007", message, tail.span, help=help))
        raise InvalidValueError


def _misplaced_error(statement: syntax.Statement, reader: ValueReader) -> InvalidValueError:
    word = statement.span.text.split()[0]
    reader.report(
        Diagnostic(
            "TD301",
            f"`{word}` stands before any `prune`",
            statement.span,
            help="it belongs to the rounds of the prune before it; move it behind one",
        )
    )
    return InvalidValueError()


def _after_cycle_error(statement: syntax.Statement, cycle: syntax.Cycle, reader: ValueReader) -> InvalidValueError:
    reader.report(
        Diagnostic(
            "TD007",
            "the rounds of a cycle end with its brace; this belongs to none of them",
            statement.span,
            secondary=(Label(cycle.span, "the cycle"),),
            help="move it into the braces",
        )
    )
    return InvalidValueError()


def _cycle(statement: syntax.Cycle, context: ArmContext) -> tuple[model.Rounds, ...]:
    """The cycle's rounds: prunes of its body with nothing between them are one round."""
    reader = context.reader
    body = _rounds(statement.body, context)
    body = (*(attrs.evolve(group, joined=joins_next(group)) for group in body[:-1]), *body[-1:])
    times = _times(statement.times, reader)
    if times * len(body) > MAX_ROUNDS:
        message = f"{times} × {len(body)} rounds are more than {MAX_ROUNDS}"
        raise reader.report_error("TD207", message, statement.times, help="nest fewer cycles")
    if not statement.body:
        reader.report(Diagnostic("TD002", "this cycle has no statement", statement.span, help="add a `prune`"))
    if len(body) == 1 and is_single_round(body[0].prune):
        return (attrs.evolve(body[0], prune=attrs.evolve(body[0].prune, times=times)),)
    return tuple(itertools.chain.from_iterable(itertools.repeat(body, times)))


def _times(value: syntax.Value, reader: ValueReader) -> int:
    times = reader.integer(value, "the number of rounds")
    if times < 1:
        raise reader.report_error("TD207", f"`x {times}`: a cycle needs at least one round", value, help="write `x 1`")
    if times > MAX_ROUNDS:
        raise reader.report_error(
            "TD207", f"{times} rounds are more than {MAX_ROUNDS}", value, help="take larger amounts"
        )
    return times


def prune(statement: syntax.Prune, context: ArmContext) -> model.Prune:
    """One `prune` statement. Every clause is read before a mistake ends it, so that all are reported."""
    clauses, reader = _ClauseReader(), context.reader
    for clause in statement.repeated:
        reader.report(Diagnostic("TD008", "this clause is given twice", clause.span, help="keep one"))
    unit = clauses.attempt(_unit, statement.unit, reader) or "filters"
    scope = clauses.attempt(reader.word, statement.scope, vocabulary.SCOPES, "scope") or "global"
    scope = "local" if scope == "uniform" else scope
    settles = (
        clauses.attempt(_settle_condition, statement.until, statement, reader)
        if _is_settling_condition(statement.until)
        else None
    )
    watched = _is_condition(statement.until) and not _is_settling_condition(statement.until)
    ends = clauses.attempt(_end_condition, statement.until, statement, reader) if watched else None
    until = None if _is_condition(statement.until) else clauses.attempt(_until, statement.until, statement, reader)
    matching = isinstance(statement.amount, syntax.Matching)
    once = _is_settling_condition(statement.until) or (statement.until is None and not matching)
    times = clauses.attempt(_times, statement.times, reader) or (1 if once else None)
    amount = clauses.attempt(_amount, statement.amount, statement, unit, scope, times, until, context)
    at = clauses.attempt(reader.moment, statement.at, "`at`")
    by = clauses.attempt(_criterion, statement.by, unit, at, reader) or vocabulary.DEFAULT_CRITERIA[unit]
    within = clauses.attempt(_patterns, statement.within or None, reader) or ()
    protect = clauses.attempt(_patterns, statement.protect or None, reader) or ()
    if unit == "weights" and by in ("l1", "l2"):
        by = "magnitude"  # one weight's norms are its magnitude
    if clauses.failed or amount is None:
        raise InvalidValueError
    resolved = model.Prune(
        unit=unit,
        scope=scope,
        amount=amount,
        by=by,
        pictures="data" in vocabulary.CRITERIA[by].needs,
        times=times,
        until=until,
        ends=ends,
        settles=settles,
        at=at,
        at_place=reader.locate(statement.at) if statement.at is not None else None,
        within=tuple(pattern for pattern, _ in within),
        protect=tuple(pattern for pattern, _ in protect),
        span=statement.span,
        amount_span=_amount_span(statement.amount, reader),
        by_span=reader.origin_span(statement.by) if statement.by is not None else None,
        within_spans=tuple(span for _, span in within),
        protect_spans=tuple(span for _, span in protect),
    )
    DefaultsReporter(reader.report).ranking(statement, resolved)
    return resolved


class _ClauseReader:
    """Reads clause after clause: one that is not there is None, one that is wrong is remembered."""

    def __init__(self) -> None:
        self.failed = False

    def attempt(self, reading: Callable[..., T], clause: Any, *rest: Any) -> T | None:
        if clause is None:
            return None
        try:
            return reading(clause, *rest)
        except InvalidValueError:
            self.failed = True
            return None


def _unit(value: syntax.Value, reader: ValueReader) -> str:
    unit = reader.word(value, vocabulary.UNITS, "unit")
    return "layers" if unit == "blocks" else unit


def _patterns(values: tuple[syntax.Value, ...], reader: ValueReader) -> tuple[tuple[str, syntax.Span], ...]:
    """The layer patterns, each with the place where it was written; `$name` may stand for a list of them."""
    return tuple(
        (item.text if isinstance(item, syntax.String | syntax.Word) else format_value(item), item.span)
        for value in values
        for item in map(reader.dereference, reader.items(value))
    )


def _amount_span(written: syntax.Amount, reader: ValueReader) -> syntax.Span:
    if not isinstance(written, syntax.Matching) and isinstance(written.value, syntax.Ref):
        return reader.origin_span(written.value)
    return written.span


def _criterion(value: syntax.Value, unit: str, at: Moment | None, reader: ValueReader) -> str:
    name = reader.table_name(value, vocabulary.CRITERIA, "TD103")
    criterion = vocabulary.CRITERIA[name]
    fitting = {n: c for n, c in vocabulary.CRITERIA.builtin.items() if unit in c.units}
    if unit not in criterion.units:
        raise reader.report_error(
            "TD312",
            f"`by {name}` cannot rank {unit}; it ranks {join_or(criterion.units)}",
            value,
            help=f"for {unit}: {', '.join(fitting)}",
        )
    if at is not None and not at.amount and "training" in criterion.needs:
        useful = [n for n, c in fitting.items() if "training" not in c.needs]
        raise reader.report_error(
            "TD311",
            f"`by {name}` at init: it reads what training has made of the network, and nothing is trained yet",
            value,
            help=f"prune later, or rank by {join_or(useful)}",
        )
    return name


def _is_condition(value: syntax.Value | syntax.Condition | None) -> bool:
    return isinstance(value, syntax.Condition)


def _is_settling_condition(value: syntax.Value | syntax.Condition | None) -> bool:
    return isinstance(value, syntax.Condition) and value.metric.text == vocabulary.MASK_DISTANCE


def _settle_condition(written: syntax.Condition, statement: syntax.Prune, reader: ValueReader) -> model.Condition:
    """`until mask-distance < 0.1`: chosen after every epoch, removed once the choice stays alike."""
    bound = float(reader.share(written.bound, vocabulary.MASK_DISTANCE))
    if written.comparison not in ("<", "<=") or not bound:
        message = "a choice has settled once its distance to those before is below a bound"
        reader.report(Diagnostic("TD201", message, written.span, help="write `until mask-distance < 0.1`"))
        raise InvalidValueError
    if statement.times is not None:
        raise reader.report_error(
            "TD209",
            "`until mask-distance` says when one choice is made: it has no rounds",
            statement.times,
            help="leave `x N` out; `cycle N { … }` repeats it with what stands behind it",
        )
    return model.Condition(vocabulary.MASK_DISTANCE, written.comparison, bound, span=written.span)


def _end_condition(condition: syntax.Condition, statement: syntax.Prune, reader: ValueReader) -> model.Condition:
    """`until accuracy < 95%`: the rounds end with the first level that meets it."""
    found = after_prune.condition(condition, reader)
    if isinstance(statement.amount, syntax.TargetAmount) and statement.times is None:
        reader.report(
            Diagnostic(
                "TD209",
                "`to …` lands in one round: a condition has nothing to end",
                condition.span,
                help="give the number of rounds, `x 8`, or an amount for each, `20%`",
            )
        )
        raise InvalidValueError
    return found


def _until(value: syntax.Value, statement: syntax.Prune, reader: ValueReader) -> Fraction:
    share = reader.share(value, "`until`")
    if not 0 < share < 1:
        message = f"`until {percent(share)}`: what is gone lies between 0% and 100%, both excluded"
        raise reader.report_error("TD201", message, value)
    if isinstance(statement.amount, syntax.TargetAmount):
        raise reader.report_error(
            "TD209",
            "give either `to …` or `until …`, not both",
            value,
            secondary=(Label(statement.amount.span, "the target"),),
            help="`20% until 98%` repeats rounds of 20%; `to 98% x 8` lands there in 8 rounds",
        )
    return share


def _amount(
    written: syntax.Amount,
    statement: syntax.Prune,
    unit: str,
    scope: str,
    times: int | None,
    until: Fraction | None,
    context: ArmContext,
) -> model.Amount:
    reader = context.reader
    if isinstance(written, syntax.Matching):
        return _matching(written, statement, context)
    value = reader.dereference(written.value)
    if isinstance(value, syntax.ListValue):
        return _stages(written, unit, scope, reader)
    if isinstance(value, syntax.Number):
        return _count(value, written, unit, reader)
    if not isinstance(value, syntax.Percent):
        message = f"an amount is a share such as `20%` or a count; found `{format_value(value)}`"
        raise reader.report_error("TD105", message, written.value)
    share = value.share
    if not 0 < share < 1:
        raise reader.report_error(
            "TD201",
            f"{percent(share)} is not a share; amounts lie in (0%, 100%)",
            written.value,
            help="`20%` takes a fifth of what remains; `to 95%` leaves a twentieth",
        )
    if isinstance(written, syntax.TargetAmount):
        return model.To(share)
    base = reader.word(written.base, vocabulary.AMOUNT_BASES, "base") if written.base is not None else "remaining"
    of_original = base == "original"
    if of_original and times is not None and times * share >= 1:
        raise reader.report_error(
            "TD204",
            f"{times} rounds × {percent(share)} of original = {percent(times * share)}",
            written.value,
            help=f"without `of original`, {percent(share)} is of what remains",
        )
    if until is not None and statement.times is not None and times is not None:
        _check_rounds_and_until(
            times * share if of_original else 1 - (1 - share) ** times, share, times, until, statement, reader
        )
    return model.Share(share, base)


def _matching(written: syntax.Matching, statement: syntax.Prune, context: ArmContext) -> model.Matching:
    name = context.arm_name(written.arm, "matching", context.arms)
    if name == context.arm:
        message = f"arm `{name}` cannot match itself"
        raise context.reader.report_error("TD511", message, written.arm, help="name another arm")
    if statement.until is not None:
        message = "`matching` has as many rounds as the arm that it matches"
        context.reader.report(Diagnostic("TD209", message, statement.until.span, help="drop the `until`"))
        raise InvalidValueError
    return model.Matching(name)


def _stages(
    written: syntax.RoundAmount | syntax.TargetAmount, unit: str, scope: str, reader: ValueReader
) -> model.Stages:
    """`[60%, 30%, 10%]`: a share of what remains for each stage of the network."""
    if isinstance(written, syntax.TargetAmount):
        raise report_unsupported(reader, written.value, "a target for each stage", "write shares: `[60%, 30%, 10%]`")
    if scope != "local" or unit not in ("filters", "weights"):
        message = (
            "amounts for each stage need `local`: a global ranking has one amount"
            if scope != "local"
            else f"stages are of convolutions: they hold no {unit}"
        )
        raise reader.report_bad_value(written.value, message, help="write `prune filters local [60%, 30%, 10%]`")
    shares = tuple(reader.share(item, "a stage's amount") for item in reader.items(written.value))
    if not any(shares) or any(share >= 1 for share in shares):
        raise reader.report_error("TD201", "a stage's amount lies in [0%, 100%), and not all are 0%", written.value)
    return model.Stages(shares)


def _check_rounds_and_until(
    reached: Fraction, share: Fraction, times: int, until: Fraction, statement: syntax.Prune, reader: ValueReader
) -> None:
    """`x N` beside an `until`: too few rounds are an error, enough of them say nothing."""
    assert isinstance(statement.until, syntax.Value) and statement.times is not None
    if reached < until:
        raise reader.report_error(
            "TD205",
            f"`until {percent(until)}` conflicts with `x {times}`: {times} × {percent(share)} stops at "
            f"{percent(round(reached, 3))}",
            statement.until,
            help=f"drop `x {times}`, or lower the target",
        )
    reader.report_error(
        "TD210",
        f"`x {times}` has no effect: `until {percent(until)}` is reached before",
        statement.times,
        help=f"drop `x {times}`, or drop `until`",
    )


def _count(
    value: syntax.Number, written: syntax.RoundAmount | syntax.TargetAmount, unit: str, reader: ValueReader
) -> model.Count:
    if unit == "weights" or not isinstance(value.value, int):
        raise reader.report_error(
            "TD203",
            f"`prune {unit} {format_value(value)}`: a bare count is for filters, neurons, layers and blocks",
            written.value,
            label=f"did you mean `{_suggest_share(value)}`?",
        )
    if isinstance(written, syntax.TargetAmount) or value.value < 1:
        message = f"`{written.span.text}`: a count takes that many in each round, at least 1"
        raise reader.report_error("TD203", message, written.value)
    return model.Count(value.value)


def _suggest_share(value: syntax.Number) -> str:
    """`0.2` and `20` as the percentages they were meant to be."""
    return percent(Fraction(str(value.value))) if 0 < value.value < 1 else f"{format_value(value)}%"
