"""Pipeline statements to rounds: each prune with the tail that follows it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any, TypeVar

import attrs

from tickdsl.lang import syntax, vocabulary
from tickdsl.lang.diagnostics import Diagnostic, Label
from tickdsl.lang.values import Reader, Unreadable, percent, spell
from tickdsl.moments import INIT
from tickdsl.plan import model

T = TypeVar("T")


def rounds(
    statements: Iterable[syntax.Statement], reader: Reader, split: model.Split | None
) -> tuple[model.Rounds, ...]:
    """The rounds of a pipeline; what is wrong is reported through the reader and left out."""
    built: list[model.Rounds] = []
    opened = False
    cycle: syntax.Cycle | None = None
    for statement in statements:
        try:
            match statement:
                case syntax.Prune():
                    opened, cycle = True, None
                    built.append(model.Rounds(prune(statement, reader)))
                case syntax.Overlap() | syntax.Rewind():
                    tail = _tail(statement, reader, split)
                    if not built:
                        raise Unreadable if opened else _misplaced(statement, reader)
                    if cycle is not None:
                        raise _behind_cycle(statement, cycle, reader)
                    built[-1] = _with_tail(built[-1], tail, reader)
                case syntax.Cycle():
                    opened, cycle = True, statement
                    built += _cycle(statement, reader, split)
                case _:
                    word = statement.span.text.split()[0]
                    raise not_yet(reader, statement.span, f"`{word}`")
        except Unreadable:
            continue
    return tuple(built)


def not_yet(reader: Reader, span: syntax.Span, what: str, help: str | None = None) -> Unreadable:
    """A part of the language that this version reads but does not carry out."""
    reader.report(
        Diagnostic("TD006", f"{what} is part of the language but this version cannot carry it out", span, help=help)
    )
    return Unreadable()


def _misplaced(statement: syntax.Statement, reader: Reader) -> Unreadable:
    word = statement.span.text.split()[0]
    reader.report(
        Diagnostic(
            "TD301",
            f"`{word}` stands before any `prune`",
            statement.span,
            help="it belongs to the rounds of the prune before it; move it behind one",
        )
    )
    return Unreadable()


def _behind_cycle(statement: syntax.Statement, cycle: syntax.Cycle, reader: Reader) -> Unreadable:
    reader.report(
        Diagnostic(
            "TD007",
            "the rounds of a cycle end with its brace; this belongs to none of them",
            statement.span,
            secondary=(Label(cycle.span, "the cycle"),),
            help="move it into the braces",
        )
    )
    return Unreadable()


def _cycle(statement: syntax.Cycle, reader: Reader, split: model.Split | None) -> tuple[model.Rounds, ...]:
    body = rounds(statement.body, reader, split)
    times = _times(statement.times, reader)
    if not statement.body:
        reader.report(Diagnostic("TD002", "this cycle has no statement", statement.span, help="add a `prune`"))
    if len(body) == 1 and body[0].prune.times == 1 and body[0].prune.until is None:
        return (attrs.evolve(body[0], prune=attrs.evolve(body[0].prune, times=times)),)
    return tuple(itertools.chain.from_iterable(itertools.repeat(body, times)))


def _with_tail(group: model.Rounds, tail: model.Tail, reader: Reader) -> model.Rounds:
    for earlier in group.tail:
        if type(earlier) is type(tail):
            message = (
                f"two rewinds in one round: the second wins over `rewind {earlier.what}`"
                if isinstance(earlier, model.Rewind)
                else "two overlaps in one round"
            )
            reader.report(
                Diagnostic(
                    "TD304",
                    message,
                    tail.span,
                    secondary=(Label(earlier.span, "the first one"),),
                    help="keep one of them",
                )
            )
            raise Unreadable
    if isinstance(tail, model.Overlap) and group.tail:
        reader.report(Diagnostic("TD007", "`overlap` comes before `rewind`", tail.span, help="swap the two statements"))
        raise Unreadable
    return attrs.evolve(group, tail=(*group.tail, tail))


def _tail(statement: syntax.Overlap | syntax.Rewind, reader: Reader, split: model.Split | None) -> model.Tail:
    if isinstance(statement, syntax.Overlap):
        return _overlap(statement, reader, split)
    reader.options(statement.options, {}, "rewind")
    what = reader.word(statement.what, vocabulary.REWINDS, "rewind")
    to = reader.moment(statement.to, "a rewind's end") if statement.to is not None else INIT
    return model.Rewind(what, to, span=statement.span)


def _overlap(statement: syntax.Overlap, reader: Reader, split: model.Split | None) -> model.Overlap:
    if split is None:
        reader.report(
            Diagnostic(
                "TD501",
                "`overlap` needs parts to overlap",
                statement.span,
                help="add `split classes 2` (or more) to the arm",
            )
        )
        raise Unreadable
    at_least = statement.at_least if statement.at_least is not None else split.parts
    of = statement.parts if statement.parts is not None else split.parts
    if not 1 <= at_least <= of or of != split.parts:
        reader.report(
            Diagnostic(
                "TD502",
                f"`{at_least} of {of}`: the split has {split.parts} parts",
                statement.span,
                help=f"write `overlap 1 of {split.parts}` to `overlap {split.parts} of {split.parts}`",
            )
        )
        raise Unreadable
    return model.Overlap(at_least, span=statement.span)


def _times(value: syntax.Value, reader: Reader) -> int:
    times = reader.integer(value, "the number of rounds")
    if times < 1:
        reader.report(
            Diagnostic("TD207", f"`x {times}`: a cycle needs at least one round", value.span, help="write `x 1`")
        )
        raise Unreadable
    return times


def prune(statement: syntax.Prune, reader: Reader) -> model.Prune:
    """One `prune` statement. Every clause is read before a mistake ends it, so that all are reported."""
    read = _Attempts()
    for clause in statement.repeated:
        reader.report(Diagnostic("TD008", "this clause is given twice", clause.span, help="keep one"))
    unit = read.attempt(_unit, statement.unit, reader) or "filters"
    scope = read.attempt(reader.word, statement.scope, vocabulary.SCOPES, "scope") or "global"
    scope = "local" if scope == "uniform" else scope
    until = read.attempt(_until, statement.until, statement, reader)
    times = read.attempt(_times, statement.times, reader) or (1 if statement.until is None else None)
    amount = read.attempt(_amount, statement.amount, statement, unit, times, until, reader)
    at = read.attempt(reader.moment, statement.at, "`at`")
    by = read.attempt(_criterion, statement.by, unit, reader) or vocabulary.DEFAULT_CRITERIA[unit]
    if unit == "weights" and by in ("l1", "l2"):
        by = "magnitude"  # one weight's norms are its magnitude
    if read.failed or amount is None:
        raise Unreadable
    return model.Prune(
        unit=unit,
        scope=scope,
        amount=amount,
        by=by,
        times=times,
        until=until,
        at=at,
        within=tuple(_pattern(value, reader) for value in statement.within),
        protect=tuple(_pattern(value, reader) for value in statement.protect),
        span=statement.span,
        amount_span=statement.amount.span,
        by_span=statement.by.span if statement.by is not None else None,
        within_spans=tuple(value.span for value in statement.within),
        protect_spans=tuple(value.span for value in statement.protect),
    )


class _Attempts:
    """Reads clause after clause: one that is not there is None, one that is wrong is remembered."""

    def __init__(self) -> None:
        self.failed = False

    def attempt(self, reading: Callable[..., T], clause: Any, *rest: Any) -> T | None:
        if clause is None:
            return None
        try:
            return reading(clause, *rest)
        except Unreadable:
            self.failed = True
            return None


def _unit(value: syntax.Value, reader: Reader) -> str:
    unit = reader.word(value, vocabulary.UNITS, "unit")
    return "layers" if unit == "blocks" else unit


def _pattern(value: syntax.Value, reader: Reader) -> str:
    value = reader.follow(value)
    return value.text if isinstance(value, syntax.Text | syntax.Word) else spell(value)


def _criterion(value: syntax.Value, unit: str, reader: Reader) -> str:
    name = reader.word(value, vocabulary.CRITERIA, "criterion", "TD103")
    criterion = vocabulary.CRITERIA[name]
    if unit not in criterion.units:
        fitting = [n for n, c in vocabulary.CRITERIA.items() if unit in c.units and c.ready]
        reader.report(
            Diagnostic(
                "TD312",
                f"`by {name}` cannot rank {unit}; it ranks {' and '.join(criterion.units)}",
                value.span,
                help=f"for {unit}: {', '.join(fitting)}",
            )
        )
        raise Unreadable
    if not criterion.ready:
        raise not_yet(reader, value.span, f"`by {name}`", "use magnitude, l1, l2, bn-scale or random")
    return name


def _until(value: syntax.Value | syntax.Condition, statement: syntax.Prune, reader: Reader) -> Fraction:
    if isinstance(value, syntax.Condition):
        raise not_yet(reader, value.span, "`until` with a condition", "write the share: `until 98%`")
    share = reader.share(value, "`until`")
    if not 0 < share < 1:
        message = f"`until {percent(share)}`: what is gone lies between 0% and 100%, both excluded"
        reader.report(Diagnostic("TD201", message, value.span))
        raise Unreadable
    if isinstance(statement.amount, syntax.Target):
        reader.report(
            Diagnostic(
                "TD209",
                "give either `to …` or `until …`, not both",
                value.span,
                secondary=(Label(statement.amount.span, "the target"),),
                help="`20% until 98%` repeats rounds of 20%; `to 98% x 8` lands there in 8 rounds",
            )
        )
        raise Unreadable
    return share


def _amount(
    written: syntax.Amount,
    statement: syntax.Prune,
    unit: str,
    times: int | None,
    until: Fraction | None,
    reader: Reader,
) -> model.Amount:
    if isinstance(written, syntax.Matching):
        raise not_yet(reader, written.span, "`matching`")
    value = reader.follow(written.value)
    if isinstance(value, syntax.Items):
        raise not_yet(
            reader,
            value.span,
            "a list of amounts per stage",
            "use one amount, or one prune per layer with `in`",
        )
    if isinstance(value, syntax.Number):
        return _count(value, written, unit, until, reader)
    if not isinstance(value, syntax.Percent):
        reader.report(
            Diagnostic(
                "TD105",
                f"an amount is a share such as `20%` or a count; found `{spell(value)}`",
                written.value.span,
            )
        )
        raise Unreadable
    share = value.share
    if not 0 < share < 1:
        reader.report(
            Diagnostic(
                "TD201",
                f"{percent(share)} is not a share; amounts lie in (0%, 100%)",
                written.value.span,
                help="`20%` takes a fifth of what remains; `to 95%` leaves a twentieth",
            )
        )
        raise Unreadable
    if isinstance(written, syntax.Target):
        return model.To(share)
    if written.base == "original":
        _sum(share, times, until, written, reader)
    elif until is not None and times is not None and 1 - (1 - share) ** times < until:
        reached = 1 - (1 - share) ** times
        reader.report(
            Diagnostic(
                "TD205",
                f"`until {percent(until)}` conflicts with `x {times}`: {times} × {percent(share)} stops at "
                f"{percent(round(reached, 3))}",
                statement.until.span if statement.until is not None else statement.span,
                help=f"drop `x {times}`, or lower the target",
            )
        )
        raise Unreadable
    return model.Share(share, written.base or "remaining")


def _sum(share: Fraction, times: int | None, until: Fraction | None, written: syntax.Step, reader: Reader) -> None:
    if times is not None and times * share >= 1:
        reader.report(
            Diagnostic(
                "TD204",
                f"{times} rounds × {percent(share)} of original = {percent(times * share)}",
                written.span,
                help=f"without `of original`, {percent(share)} is of what remains",
            )
        )
        raise Unreadable


def _count(
    value: syntax.Number,
    written: syntax.Step | syntax.Target,
    unit: str,
    until: Fraction | None,
    reader: Reader,
) -> model.Count:
    if unit == "weights" or not isinstance(value.value, int):
        reader.report(
            Diagnostic(
                "TD203",
                f"`prune {unit} {spell(value)}`: a bare count is for filters, neurons, layers and blocks",
                written.span,
                label=f"did you mean `{spell(value)}%`?",
            )
        )
        raise Unreadable
    if isinstance(written, syntax.Target) or value.value < 1:
        reader.report(
            Diagnostic(
                "TD203",
                f"`{written.span.text}`: a count takes that many in each round, at least 1",
                written.span,
            )
        )
        raise Unreadable
    return model.Count(value.value)
