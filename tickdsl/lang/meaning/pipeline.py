"""Pipeline statements to rounds: each prune with the tail that follows it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any, TypeVar

import attrs

from tickdsl.lang import syntax, vocabulary
from tickdsl.lang.findings.diagnostics import Diagnostic, Label, listing
from tickdsl.lang.meaning import tails
from tickdsl.lang.meaning.defaults import Assumed
from tickdsl.lang.meaning.tails import Around
from tickdsl.lang.meaning.values import Reader, Unreadable, not_yet
from tickdsl.lang.writing.cycles import goes_on, single
from tickdsl.lang.writing.literals import percent, spell
from tickdsl.moments import Moment
from tickdsl.plan import model

T = TypeVar("T")

#: More rounds than this in one arm are a slip.
MOST_ROUNDS = 10_000


@attrs.frozen
class Pipeline:
    """The rounds of an arm, and the data on which its levels are judged, where those are others."""

    rounds: tuple[model.Rounds, ...]
    transfer: model.Transfer | None = None


def read(statements: Iterable[syntax.Statement], around: Around) -> Pipeline:
    """The pipeline that the statements mean; what is wrong is reported through the reader and left out."""
    statements = list(statements)
    moves = [statement for statement in statements if isinstance(statement, syntax.Transfer)]
    for statement in statements[statements.index(moves[0]) + 1 :][:1] if moves else ():
        around.reader.report(
            Diagnostic(
                "TD007",
                "a transfer ends the pipeline: every level is judged on the other data",
                statement.span,
                secondary=(Label(moves[0].span, "the transfer"),),
                help="say how the ticket is trained there in braces: `transfer to … { retrain … }`",
            )
        )
    transfer = None
    for statement in moves[:1]:
        with contextlib.suppress(Unreadable):
            transfer = tails.transfer(statement, around)
    before = statements[: statements.index(moves[0])] if moves else statements
    built = _rounds(before, around)
    _can_settle(built, around.reader)
    if moves and not any(isinstance(statement, syntax.Prune | syntax.Cycle) for statement in before):
        _misplaced(moves[0], around.reader)
    return Pipeline(built, transfer)


def _can_settle(built: Iterable[model.Rounds], reader: Reader) -> None:
    """Whether there is a training in which each choice that is waited for can settle."""
    for before, group in itertools.pairwise(built):
        goes_on_training = before.prune.at is not None and before.prune.settles is None
        trains = goes_on_training or any(isinstance(t, model.Rewind | model.Retrain) for t in before.tail)
        if group.prune.settles is not None and not trains:
            message = "a choice settles in the training before its prune, and there is none"
            help = "put `rewind lr`, `rewind weights` or `retrain …` behind the prune before it"
            reader.report(Diagnostic("TD007", message, group.prune.span, help=help))


def _rounds(statements: Iterable[syntax.Statement], around: Around) -> tuple[model.Rounds, ...]:
    built: list[model.Rounds] = []
    reader = around.reader
    opened = False
    cycle: syntax.Cycle | None = None
    for statement in statements:
        try:
            match statement:
                case syntax.Prune():
                    opened, cycle = True, None
                    built.append(model.Rounds(prune(statement, around)))
                case syntax.Cycle():
                    opened, cycle = True, statement
                    built += _cycle(statement, around)
                case syntax.Transfer():
                    help = "put it behind the cycle: every level is judged there"
                    reader.report(Diagnostic("TD007", "a transfer ends the pipeline", statement.span, help=help))
                case _:
                    if not opened:
                        raise _misplaced(statement, reader)
                    tail = tails.tail(statement, around)
                    if not built:
                        raise Unreadable
                    if cycle is not None:
                        raise _behind_cycle(statement, cycle, reader)
                    tails.behind(built[-1].tail, tail, reader)
                    _pending(built[-1], tail, reader)
                    built[-1] = attrs.evolve(built[-1], tail=(*built[-1].tail, tail))
        except Unreadable:
            continue
    return tuple(built)


def _pending(group: model.Rounds, tail: model.Tail, reader: Reader) -> None:
    """Whether there is a training that a teacher can take part in."""
    trains = any(isinstance(each, model.Rewind | model.Retrain) for each in group.tail)
    if isinstance(tail, model.Distill) and not trains and group.prune.at is None:
        message = "`distill` adds to the training behind this prune, and there is none"
        help = "put `rewind lr`, `rewind weights` or `retrain …` before it"
        reader.report(Diagnostic("TD007", message, tail.span, help=help))
        raise Unreadable


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


def _cycle(statement: syntax.Cycle, around: Around) -> tuple[model.Rounds, ...]:
    """The cycle's rounds: prunes of its body with nothing between them are one round."""
    reader = around.reader
    body = _rounds(statement.body, around)
    body = (*(attrs.evolve(group, joined=goes_on(group)) for group in body[:-1]), *body[-1:])
    times = _times(statement.times, reader)
    if times * len(body) > MOST_ROUNDS:
        message = f"{times} × {len(body)} rounds are more than {MOST_ROUNDS}"
        raise reader.wrong("TD207", message, statement.times, help="nest fewer cycles")
    if not statement.body:
        reader.report(Diagnostic("TD002", "this cycle has no statement", statement.span, help="add a `prune`"))
    if len(body) == 1 and single(body[0].prune):
        return (attrs.evolve(body[0], prune=attrs.evolve(body[0].prune, times=times)),)
    return tuple(itertools.chain.from_iterable(itertools.repeat(body, times)))


def _times(value: syntax.Value, reader: Reader) -> int:
    times = reader.integer(value, "the number of rounds")
    if times < 1:
        raise reader.wrong("TD207", f"`x {times}`: a cycle needs at least one round", value, help="write `x 1`")
    if times > MOST_ROUNDS:
        raise reader.wrong("TD207", f"{times} rounds are more than {MOST_ROUNDS}", value, help="take larger amounts")
    return times


def prune(statement: syntax.Prune, around: Around) -> model.Prune:
    """One `prune` statement. Every clause is read before a mistake ends it, so that all are reported."""
    read, reader = _Attempts(), around.reader
    for clause in statement.repeated:
        reader.report(Diagnostic("TD008", "this clause is given twice", clause.span, help="keep one"))
    unit = read.attempt(_unit, statement.unit, reader) or "filters"
    scope = read.attempt(reader.word, statement.scope, vocabulary.SCOPES, "scope") or "global"
    scope = "local" if scope == "uniform" else scope
    settles = read.attempt(_settles, statement.until, statement, reader) if _settling(statement.until) else None
    watched = _is_condition(statement.until) and not _settling(statement.until)
    ends = read.attempt(_ends, statement.until, statement, reader) if watched else None
    until = None if _is_condition(statement.until) else read.attempt(_until, statement.until, statement, reader)
    matching = isinstance(statement.amount, syntax.Matching)
    once = _settling(statement.until) or (statement.until is None and not matching)
    times = read.attempt(_times, statement.times, reader) or (1 if once else None)
    amount = read.attempt(_amount, statement.amount, statement, unit, scope, times, until, around)
    at = read.attempt(reader.moment, statement.at, "`at`")
    by = read.attempt(_criterion, statement.by, unit, at, reader) or vocabulary.DEFAULT_CRITERIA[unit]
    within = read.attempt(_patterns, statement.within or None, reader) or ()
    protect = read.attempt(_patterns, statement.protect or None, reader) or ()
    if unit == "weights" and by in ("l1", "l2"):
        by = "magnitude"  # one weight's norms are its magnitude
    if read.failed or amount is None:
        raise Unreadable
    meant = model.Prune(
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
        at_place=reader.place(statement.at) if statement.at is not None else None,
        within=tuple(pattern for pattern, _ in within),
        protect=tuple(pattern for pattern, _ in protect),
        span=statement.span,
        amount_span=_amount_span(statement.amount, reader),
        by_span=reader.origin(statement.by) if statement.by is not None else None,
        within_spans=tuple(span for _, span in within),
        protect_spans=tuple(span for _, span in protect),
    )
    Assumed(reader.report).ranking(statement, meant)
    return meant


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
    name = reader.named(value, vocabulary.CRITERIA, "TD103")
    criterion = vocabulary.CRITERIA[name]
    fitting = {n: c for n, c in vocabulary.CRITERIA.builtin.items() if unit in c.units}
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


def _is_condition(value: syntax.Value | syntax.Condition | None) -> bool:
    return isinstance(value, syntax.Condition)


def _settling(value: syntax.Value | syntax.Condition | None) -> bool:
    return isinstance(value, syntax.Condition) and value.metric.text == vocabulary.MASK_DISTANCE


def _settles(written: syntax.Condition, statement: syntax.Prune, reader: Reader) -> model.Condition:
    """`until mask-distance < 0.1`: chosen after every epoch, removed once the choice stays alike."""
    bound = float(reader.share(written.bound, vocabulary.MASK_DISTANCE))
    if written.comparison not in ("<", "<=") or not bound:
        message = "a choice has settled once its distance to those before is below a bound"
        reader.report(Diagnostic("TD201", message, written.span, help="write `until mask-distance < 0.1`"))
        raise Unreadable
    if statement.times is not None:
        raise reader.wrong(
            "TD209",
            "`until mask-distance` says when one choice is made: it has no rounds",
            statement.times,
            help="leave `x N` out; `cycle N { … }` repeats it with what stands behind it",
        )
    return model.Condition(vocabulary.MASK_DISTANCE, written.comparison, bound, span=written.span)


def _ends(condition: syntax.Condition, statement: syntax.Prune, reader: Reader) -> model.Condition:
    """`until accuracy < 95%`: the rounds end with the first level that meets it."""
    found = tails.condition(condition, reader)
    if isinstance(statement.amount, syntax.Target) and statement.times is None:
        reader.report(
            Diagnostic(
                "TD209",
                "`to …` lands in one round: a condition has nothing to end",
                condition.span,
                help="give the number of rounds, `x 8`, or an amount for each, `20%`",
            )
        )
        raise Unreadable
    return found


def _until(value: syntax.Value, statement: syntax.Prune, reader: Reader) -> Fraction:
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
    scope: str,
    times: int | None,
    until: Fraction | None,
    around: Around,
) -> model.Amount:
    reader = around.reader
    if isinstance(written, syntax.Matching):
        return _matching(written, statement, around)
    value = reader.follow(written.value)
    if isinstance(value, syntax.Items):
        return _stages(written, unit, scope, reader)
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


def _matching(written: syntax.Matching, statement: syntax.Prune, around: Around) -> model.Matching:
    name = around.named(written.arm, "matching", around.arms)
    if name == around.arm:
        message = f"arm `{name}` cannot match itself"
        raise around.reader.wrong("TD511", message, written.arm, help="name another arm")
    if statement.until is not None:
        message = "`matching` has as many rounds as the arm that it matches"
        around.reader.report(Diagnostic("TD209", message, statement.until.span, help="drop the `until`"))
        raise Unreadable
    return model.Matching(name)


def _stages(written: syntax.Step | syntax.Target, unit: str, scope: str, reader: Reader) -> model.Stages:
    """`[60%, 30%, 10%]`: a share of what remains for each stage of the network."""
    if isinstance(written, syntax.Target):
        raise not_yet(reader, written.value, "a target for each stage", "write shares: `[60%, 30%, 10%]`")
    if scope != "local" or unit not in ("filters", "weights"):
        message = (
            "amounts for each stage need `local`: a global ranking has one amount"
            if scope != "local"
            else f"stages are of convolutions: they hold no {unit}"
        )
        raise reader.bad(written.value, message, help="write `prune filters local [60%, 30%, 10%]`")
    shares = tuple(reader.share(item, "a stage's amount") for item in reader.items(written.value))
    if not any(shares) or any(share >= 1 for share in shares):
        raise reader.wrong("TD201", "a stage's amount lies in [0%, 100%), and not all are 0%", written.value)
    return model.Stages(shares)


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
