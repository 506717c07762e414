"""Resolve how much a `prune` removes: percentages, counts, targets, stages and `matching`."""

from __future__ import annotations

import contextlib
from fractions import Fraction

from tickdsl.lang import syntax, vocabulary
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.meaning.arm_context import ArmContext
from tickdsl.lang.meaning.values import InvalidValueError, ValueReader, report_unsupported
from tickdsl.lang.writing.literals import format_value, percent
from tickdsl.plan import model
from tickdsl.plurals import plural

#: The costs that a target can be a share of, in words.
COST_WORDS = {"flops": "FLOPs", "params": "parameters", "latency": "latency"}


def amount(
    written: syntax.Amount,
    statement: syntax.Prune,
    unit: str,
    scope: str,
    times: int | None,
    until: Fraction | None,
    context: ArmContext,
) -> model.Amount:
    """Resolve the amount of a `prune`. Raises InvalidValueError, after reporting it, if the amount is wrong."""
    reader = context.reader
    if isinstance(written, syntax.Matching):
        return _matching(written, statement, context)
    value = reader.dereference(written.value)
    cost = _cost(written, unit, reader) if isinstance(written, syntax.TargetAmount) else None
    if cost is not None and not isinstance(value, syntax.Percent):
        message = f"a target must be a percentage of the {COST_WORDS[cost]}; found `{format_value(value)}`"
        raise reader.report_bad_value(written.value, message, help=f"use e.g. `to 50% of {cost}`")
    if isinstance(value, syntax.Rates):
        return _rates(value, written, statement, unit, scope, times, reader)
    if isinstance(value, syntax.ListValue):
        return _stages(written, unit, scope, times, reader)
    if isinstance(value, syntax.Number):
        return _count(value, written, unit, reader)
    if not isinstance(value, syntax.Percent):
        message = f"an amount must be a percentage such as `20%`, or a count; found `{format_value(value)}`"
        raise reader.report_error("TD105", message, written.value)
    share = value.share
    if not 0 < share < 1:
        raise reader.report_error(
            "TD201",
            f"`{percent(share)}` is out of range: an amount must be above 0% and below 100%",
            written.value,
            help="`20%` removes a fifth of what remains; `to 95%` leaves 5% of the original network",
        )
    if isinstance(written, syntax.TargetAmount):
        return model.To(share) if cost is None else model.ToCost(share, cost)
    base = _base(written, reader)
    of_original = base == "original"
    if of_original:
        _check_sum(share, times, written.value, reader)
    if until is not None and statement.times is not None and times is not None:
        _check_rounds_and_until(
            times * share if of_original else 1 - (1 - share) ** times, share, times, until, statement, reader
        )
    return model.Share(share, base)


def default_scope(written: syntax.Amount, reader: ValueReader) -> str:
    """The scope of a prune that names none: `local` for rates by layer, otherwise `global`."""
    if not isinstance(written, syntax.Matching):
        with contextlib.suppress(InvalidValueError):
            return "local" if isinstance(reader.dereference(written.value), syntax.Rates) else "global"
    return "global"


def _cost(written: syntax.TargetAmount, unit: str, reader: ValueReader) -> str | None:
    """The cost that a target is a share of; None if it is a share of the units."""
    if written.cost is None:
        return None
    cost = reader.word(written.cost, vocabulary.COSTS, "cost")
    if cost in ("flops", "latency") and unit == "weights":
        raise reader.report_error(
            "TD432",
            "masks of single weights save no multiply-adds, so `prune weights` reaches no target in FLOPs"
            if cost == "flops"
            else "masks of single weights save no time, so `prune weights` reaches no target in latency",
            written.cost,
            help="prune filters, neurons or layers, or use `to … of params`",
        )
    return cost


def _rates(
    value: syntax.Rates,
    written: syntax.RoundAmount | syntax.TargetAmount,
    statement: syntax.Prune,
    unit: str,
    scope: str,
    times: int | None,
    reader: ValueReader,
) -> model.Rates:
    """`["conv*": 10%, fc: 20%]`: a share for the layers that a pattern matches."""
    if scope != "local" or unit == "layers":
        message = (
            f"rates by layer cannot be combined with `{scope}`, which sets what each layer loses"
            if scope != "local"
            else "rates by layer work with every unit but whole layers"
        )
        help = 'leave out the scope: `prune weights ["conv*": 10%, fc: 20%]`'
        raise reader.report_error("TD435", message, statement.scope or written.value, help=help)
    rates: list[tuple[str, Fraction]] = []
    for rate in value.rates:
        layer = reader.dereference(rate.layer)
        if not isinstance(layer, syntax.String | syntax.Word):
            message = f"a rate needs a pattern of layers before the colon; found `{format_value(layer)}`"
            raise reader.report_bad_value(rate.layer, message, help='use e.g. `["conv*": 10%, fc: 20%]`')
        share = reader.share(rate.share, f"the rate of `{layer.text}`")
        if share >= 1:
            message = f"`{percent(share)}` is out of range: a rate must be below 100%"
            raise reader.report_error("TD201", message, rate.share)
        rates.append((layer.text, share))
    if not any(share for _, share in rates):
        raise reader.report_error("TD201", "at least one rate must be above 0%", written.value)
    of = "target" if isinstance(written, syntax.TargetAmount) else _base(written, reader)
    if of == "original":
        _check_sum(max(share for _, share in rates), times, written.value, reader)
    return model.Rates(tuple(rates), of, spans=tuple(rate.span for rate in value.rates))


def amount_span(written: syntax.Amount, reader: ValueReader) -> syntax.Span:
    """Where an amount was written, following a `$name`."""
    if not isinstance(written, syntax.Matching) and isinstance(written.value, syntax.Ref):
        return reader.origin_span(written.value)
    return written.span


def _matching(written: syntax.Matching, statement: syntax.Prune, context: ArmContext) -> model.Matching:
    name = context.arm_name(written.arm, "matching", context.arms)
    if name == context.arm:
        message = f"arm `{name}` cannot match itself"
        raise context.reader.report_error("TD511", message, written.arm, help="name another arm")
    if statement.until is not None:
        message = f"`matching {name}` cannot be combined with `until`: it takes as many rounds as arm `{name}`"
        context.reader.report(Diagnostic("TD209", message, statement.until.span, help="remove `until`"))
        raise InvalidValueError
    return model.Matching(name)


def _stages(
    written: syntax.RoundAmount | syntax.TargetAmount, unit: str, scope: str, times: int | None, reader: ValueReader
) -> model.Stages:
    """`[60%, 30%, 10%]`: a percentage of what remains for each stage of the network."""
    if isinstance(written, syntax.TargetAmount):
        help = "use amounts per stage: `[60%, 30%, 10%]`"
        raise report_unsupported(reader, written.value, "a target per stage", help)
    if scope != "local" or unit not in ("filters", "weights"):
        message = (
            f"amounts per stage need `local`; `{scope}` takes a single amount"
            if scope != "local"
            else f"amounts per stage work with filters and weights, not with {unit}"
        )
        raise reader.report_bad_value(written.value, message, help="use e.g. `prune filters local [60%, 30%, 10%]`")
    shares = tuple(reader.share(item, "the amount of a stage") for item in reader.items(written.value))
    if not any(shares) or any(share >= 1 for share in shares):
        message = "amounts per stage must be below 100%, and at least one must be above 0%"
        raise reader.report_error("TD201", message, written.value)
    base = _base(written, reader)
    if base == "original":
        _check_sum(max(shares), times, written.value, reader)
    return model.Stages(shares, base)


def _base(written: syntax.RoundAmount, reader: ValueReader) -> str:
    """What the shares of each round refer to: the `remaining` or the `original` units."""
    return reader.word(written.base, vocabulary.AMOUNT_BASES, "base") if written.base is not None else "remaining"


def _check_sum(share: Fraction, times: int | None, value: syntax.Value, reader: ValueReader) -> None:
    """Report TD204 if rounds of a share of the original units would leave nothing."""
    if times is not None and times * share >= 1:
        raise reader.report_error(
            "TD204",
            f"{plural(times, 'round')} × {percent(share)} of original = {percent(times * share)}, which leaves nothing",
            value,
            help=f"drop `of original` to remove {percent(share)} of what remains in each round",
        )


def _check_rounds_and_until(
    reached: Fraction, share: Fraction, times: int, until: Fraction, statement: syntax.Prune, reader: ValueReader
) -> None:
    """Check `x N` with `until`: too few rounds are an error, enough rounds have no effect."""
    assert isinstance(statement.until, syntax.Value) and statement.times is not None
    if reached < until:
        raise reader.report_error(
            "TD205",
            f"`until {percent(until)}` cannot be reached with `x {times}`: {plural(times, 'round')} of "
            f"{percent(share)} {'removes' if times == 1 else 'remove'} {percent(round(reached, 3))}",
            statement.until,
            help=f"remove `x {times}`, or lower the target",
        )
    reader.report_error(
        "TD210",
        f"`x {times}` has no effect: `until {percent(until)}` is reached earlier",
        statement.times,
        help=f"remove `x {times}` or `until {percent(until)}`",
    )


def _count(
    value: syntax.Number, written: syntax.RoundAmount | syntax.TargetAmount, unit: str, reader: ValueReader
) -> model.Count:
    if unit == "weights" or not isinstance(value.value, int):
        reason = "counts work with every unit but weights" if unit == "weights" else (
            "a count must be a whole number"
        )  # fmt: skip
        raise reader.report_error(
            "TD203",
            f"`prune {unit} {format_value(value)}`: {reason}",
            written.value,
            label=f"did you mean `{_suggest_share(value)}`?" if value.value > 0 else "",
        )
    if isinstance(written, syntax.TargetAmount):
        message = f"`{written.span.text}`: a target must be a percentage; a count is removed in each round"
        raise reader.report_error("TD203", message, written.value)
    if value.value < 1:
        raise reader.report_error("TD203", f"`{written.span.text}`: a count must be at least 1", written.value)
    return model.Count(value.value)


def _suggest_share(value: syntax.Number) -> str:
    """The percentage that was probably meant: 20% for both `0.2` and `20`."""
    return percent(Fraction(str(value.value))) if 0 < value.value < 1 else f"{format_value(value)}%"
