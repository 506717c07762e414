"""Pipeline statements to rounds: each prune with the tail that follows it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any, TypeVar

import attrs

from tickdsl.lang import syntax, vocabulary
from tickdsl.lang.diagnostics import Diagnostic, Label, listing
from tickdsl.lang.values import Reader, Unreadable, percent, spell
from tickdsl.moments import INIT, Moment
from tickdsl.plan import model

T = TypeVar("T")

#: More rounds than this in one arm are a slip.
MOST_ROUNDS = 10_000


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
                    raise not_yet(reader, statement, f"`{word}`")
        except Unreadable:
            continue
    return tuple(built)


def not_yet(reader: Reader, node: Any, what: str, help: str | None = None) -> Unreadable:
    """A part of the language that this version reads but does not carry out: a value, or another node."""
    message = f"{what} is part of the language but this version cannot carry it out"
    if isinstance(node, syntax.Value):
        return reader.wrong("TD006", message, node, help=help)
    reader.report(Diagnostic("TD006", message, node.span, help=help))
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
    if times * len(body) > MOST_ROUNDS:
        message = f"{times} × {len(body)} rounds are more than {MOST_ROUNDS}"
        raise reader.wrong("TD207", message, statement.times, help="nest fewer cycles")
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
    at_least = split.parts if statement.at_least is None else reader.integer(statement.at_least, "the parts to keep")
    of = split.parts if statement.parts is None else reader.integer(statement.parts, "the number of parts")
    if not 1 <= at_least <= of or of != split.parts:
        reader.report(
            Diagnostic(
                "TD502",
                f"`{at_least} of {of}`: the split has {split.parts} parts",
                statement.span,
                secondary=(Label(split.span, "the split"),),
                help=f"write `overlap 1 of {split.parts}` to `overlap {split.parts} of {split.parts}`",
            )
        )
        raise Unreadable
    return model.Overlap(at_least, span=statement.span)


def _times(value: syntax.Value, reader: Reader) -> int:
    times = reader.integer(value, "the number of rounds")
    if times < 1:
        raise reader.wrong("TD207", f"`x {times}`: a cycle needs at least one round", value, help="write `x 1`")
    if times > MOST_ROUNDS:
        raise reader.wrong("TD207", f"{times} rounds are more than {MOST_ROUNDS}", value, help="take larger amounts")
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
    by = read.attempt(_criterion, statement.by, unit, at, reader) or vocabulary.DEFAULT_CRITERIA[unit]
    within = read.attempt(_patterns, statement.within or None, reader) or ()
    protect = read.attempt(_patterns, statement.protect or None, reader) or ()
    if unit == "weights" and by in ("l1", "l2"):
        by = "magnitude"  # one weight's norms are its magnitude
    if read.failed or amount is None:
        raise Unreadable
    return model.Prune(
        unit=unit,
        scope=scope,
        amount=amount,
        by=by,
        pictures="data" in vocabulary.CRITERIA[by].needs,
        times=times,
        until=until,
        at=at,
        within=tuple(pattern for pattern, _ in within),
        protect=tuple(pattern for pattern, _ in protect),
        span=statement.span,
        amount_span=_amount_span(statement.amount, reader),
        by_span=reader.origin(statement.by) if statement.by is not None else None,
        within_spans=tuple(span for _, span in within),
        protect_spans=tuple(span for _, span in protect),
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


def _patterns(values: tuple[syntax.Value, ...], reader: Reader) -> tuple[tuple[str, syntax.Span], ...]:
    """The layer patterns, each with the place where it was written; `$name` may stand for a list of them."""
    return tuple(
        (item.text if isinstance(item, syntax.Text | syntax.Word) else spell(item), item.span)
        for value in values
        for item in map(reader.follow, reader.items(value))
    )


def _amount_span(written: syntax.Amount, reader: Reader) -> syntax.Span:
    if not isinstance(written, syntax.Matching) and isinstance(written.value, syntax.Ref):
        return reader.origin(written.value)
    return written.span


def _criterion(value: syntax.Value, unit: str, at: Moment | None, reader: Reader) -> str:
    name = reader.word(value, vocabulary.CRITERIA, "criterion", "TD103")
    criterion = vocabulary.CRITERIA[name]
    fitting = {n: c for n, c in vocabulary.CRITERIA.items() if unit in c.units}
    if unit not in criterion.units:
        raise reader.wrong(
            "TD312",
            f"`by {name}` cannot rank {unit}; it ranks {listing(criterion.units)}",
            value,
            help=f"for {unit}: {', '.join(fitting)}",
        )
    if at is not None and not at.amount and "training" in criterion.needs:
        useful = [n for n, c in fitting.items() if "training" not in c.needs]
        raise reader.wrong(
            "TD311",
            f"`by {name}` at init: it reads what training has made of the network, and nothing is trained yet",
            value,
            help=f"prune later, or rank by {listing(useful)}",
        )
    return name


def _until(value: syntax.Value | syntax.Condition, statement: syntax.Prune, reader: Reader) -> Fraction:
    if isinstance(value, syntax.Condition):
        raise not_yet(reader, value, "`until` with a condition", "write the share: `until 98%`")
    share = reader.share(value, "`until`")
    if not 0 < share < 1:
        message = f"`until {percent(share)}`: what is gone lies between 0% and 100%, both excluded"
        raise reader.wrong("TD201", message, value)
    if isinstance(statement.amount, syntax.Target):
        raise reader.wrong(
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
    times: int | None,
    until: Fraction | None,
    reader: Reader,
) -> model.Amount:
    if isinstance(written, syntax.Matching):
        raise not_yet(reader, written, "`matching`")
    value = reader.follow(written.value)
    if isinstance(value, syntax.Items):
        help = "use one amount, or one prune per layer with `in`"
        raise not_yet(reader, written.value, "a list of amounts per stage", help)
    if isinstance(value, syntax.Number):
        return _count(value, written, unit, reader)
    if not isinstance(value, syntax.Percent):
        message = f"an amount is a share such as `20%` or a count; found `{spell(value)}`"
        raise reader.wrong("TD105", message, written.value)
    share = value.share
    if not 0 < share < 1:
        raise reader.wrong(
            "TD201",
            f"{percent(share)} is not a share; amounts lie in (0%, 100%)",
            written.value,
            help="`20%` takes a fifth of what remains; `to 95%` leaves a twentieth",
        )
    if isinstance(written, syntax.Target):
        return model.To(share)
    base = reader.word(written.base, vocabulary.BASES, "base") if written.base is not None else "remaining"
    of_original = base == "original"
    if of_original and times is not None and times * share >= 1:
        raise reader.wrong(
            "TD204",
            f"{times} rounds × {percent(share)} of original = {percent(times * share)}",
            written.value,
            help=f"without `of original`, {percent(share)} is of what remains",
        )
    if until is not None and statement.times is not None and times is not None:
        _both_ends(times * share if of_original else 1 - (1 - share) ** times, share, times, until, statement, reader)
    return model.Share(share, base)


def _both_ends(
    reached: Fraction, share: Fraction, times: int, until: Fraction, statement: syntax.Prune, reader: Reader
) -> None:
    """`x N` beside an `until`: too few rounds are an error, enough of them say nothing."""
    assert isinstance(statement.until, syntax.Value) and statement.times is not None
    if reached < until:
        raise reader.wrong(
            "TD205",
            f"`until {percent(until)}` conflicts with `x {times}`: {times} × {percent(share)} stops at "
            f"{percent(round(reached, 3))}",
            statement.until,
            help=f"drop `x {times}`, or lower the target",
        )
    reader.wrong(
        "TD210",
        f"`x {times}` has no effect: `until {percent(until)}` is reached before",
        statement.times,
        help=f"drop `x {times}`, or drop `until`",
    )


def _count(value: syntax.Number, written: syntax.Step | syntax.Target, unit: str, reader: Reader) -> model.Count:
    if unit == "weights" or not isinstance(value.value, int):
        raise reader.wrong(
            "TD203",
            f"`prune {unit} {spell(value)}`: a bare count is for filters, neurons, layers and blocks",
            written.value,
            label=f"did you mean `{_as_share(value)}`?",
        )
    if isinstance(written, syntax.Target) or value.value < 1:
        message = f"`{written.span.text}`: a count takes that many in each round, at least 1"
        raise reader.wrong("TD203", message, written.value)
    return model.Count(value.value)


def _as_share(value: syntax.Number) -> str:
    """`0.2` and `20` as the percentages they were meant to be."""
    return percent(Fraction(str(value.value))) if 0 < value.value < 1 else f"{spell(value)}%"
