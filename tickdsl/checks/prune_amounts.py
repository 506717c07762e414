"""Check how much a prune removes, on the traced network."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from tickdsl.checks.traced_prune import TracedPrune
from tickdsl.errors import TickdslError
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.findings.suggestions import did_you_mean, join_or
from tickdsl.lang.writing.literals import percent
from tickdsl.plan.model import Matching, Rates, Stages, To, ToCost
from tickdsl.plurals import plural
from tickdsl.pruning.allocation import rates_by_pool
from tickdsl.pruning.patterns import matches
from tickdsl.pruning.round_forecast import forecast_rounds, max_rounds, rounds_until
from tickdsl.pruning.scope import LAYERS, Scope, layer_names


def check_stages(traced: TracedPrune) -> Iterator[Diagnostic]:
    """Check that there is one amount for each stage of the network (TD211)."""
    if not isinstance(traced.prune.amount, Stages):
        return
    try:
        traced.args()
    except TickdslError as error:
        yield Diagnostic("TD211", error.message, traced.amount_span, help=error.hint)


def check_rates(traced: TracedPrune) -> Iterator[Diagnostic]:
    """Check that patterns of rates match layers and are used, and that coupled layers have one rate.

    These are TD402, TD437 and TD434.
    """
    amount = traced.prune.amount
    if not isinstance(amount, Rates):
        return
    names, scope, args = layer_names(traced.graph), traced.scope(), traced.raw_args()
    try:
        used = set(rates_by_pool(traced.graph, traced.base, args).values())
    except TickdslError as error:
        yield Diagnostic("TD434", error.message, traced.amount_span, help=error.hint)
        return
    spans = amount.spans or (traced.amount_span,) * len(amount.rates)
    rates = list(zip((pattern for pattern, _ in amount.rates), spans, strict=True))
    unmatched = [(pattern, span) for pattern, span in rates if not any(matches(pattern, name) for name in names)]
    for pattern, span in unmatched:
        yield Diagnostic(
            "TD402",
            f'"{pattern}" matches no layer of {traced.arm.model.name}',
            span,
            label=did_you_mean(pattern, names) or "",
            help=f"available layers: {join_or(names, 8)}",
        )
    if unmatched:
        return
    if not any(amount.rates[index][1] for index in used) and scope.pools:
        message = f"no layer that can lose {traced.prune.unit} has a rate above 0%"
        yield Diagnostic("TD202", message, traced.amount_span, help="name other layers; `tickdsl graph` lists them")
        return
    for index, (pattern, span) in enumerate(rates):
        if index not in used:
            yield Diagnostic(
                "TD437",
                f"the rate of `{pattern}` has no effect: each of its layers has an earlier rate, or loses no "
                f"{traced.prune.unit} here",
                span,
                help="the first pattern that matches counts: put it first, or remove it",
            )


def check_amount(traced: TracedPrune) -> Iterator[Diagnostic]:
    """Check that every round can remove its amount (TD202, TD404, TD405, TD408), and note the rounds of an `until`."""
    prune, arm = traced.prune, traced.arm
    if isinstance(prune.amount, Matching | ToCost) or prune.multiple > 1:
        return  # known only once the other arm has run, or checked by `cost_targets` and `width_multiples`
    try:
        scope = traced.scope()
        if prune.until is not None:
            if arm.elastic is None:
                needed = rounds_until(scope, traced.args, float(prune.until))
                message = f"takes {'at most ' if arm.split else ''}{plural(needed, 'round')} on {arm.model.name}"
            else:
                needed = max_rounds(scope, traced.args)
                message = (
                    f"counts what is left of {arm.elastic.model.name}, as which levels are measured, and not of "
                    f"{arm.model.name}, which has at most {plural(needed, 'round')}"
                )
            yield Diagnostic("TD903", f"`until {percent(prune.until)}` {message}", prune.span)
        exhausted = list(_check_exhausted(traced, scope))
        if exhausted:
            yield from exhausted
            return
        rounds = prune.times or 1 if prune.until is None else 1
        counts = itertools.takewhile(bool, forecast_rounds(scope, traced.args, rounds))
        removing = sum(1 for _ in counts)
    except TickdslError as error:
        help = error.hint
        if prune.within and isinstance(prune.amount, To):
            help = "`to` counts the whole network: for a share of the layers after `in`, write the amount without `to`"
        yield Diagnostic("TD404", error.message, traced.amount_span, help=help)
        return
    if traced.is_first and removing < rounds:
        which = "this round" if rounds == 1 else f"round {removing + 1} of {rounds}"
        yield Diagnostic(
            "TD202",
            f"{which} removes nothing: the amount rounds to 0 of the remaining {prune.unit}",
            traced.amount_span,
            help="use a larger amount" if rounds == 1 else "use a larger amount, or fewer rounds",
        )


def check_random_structure(traced: TracedPrune) -> Iterator[Diagnostic]:
    """Warn about `random-structure` (TD515) if all removable layers go: a random choice of as many is the same."""
    prune = traced.prune
    if not traced.has_random_structure or prune.unit not in LAYERS or not traced.is_only:
        return
    if isinstance(prune.amount, ToCost):
        return
    (pool,) = traced.scope().pools
    removed = sum(forecast_rounds(traced.scope(), traced.args, prune.times or 1)) if prune.until is None else 0
    if removed == pool.remaining:
        yield Diagnostic(
            "TD515",
            f"this prune removes every removable layer ({pool.remaining}), so `random-structure` would have the "
            "structure of the ticket",
            traced.amount_span,
            help="compare with `random-init`",
        )


def _check_exhausted(traced: TracedPrune, scope: Scope) -> Iterator[Diagnostic]:
    """Check counts that exceed what can be removed."""
    prune, model = traced.prune, traced.arm.model.name
    args, times = traced.args(), prune.times or 1
    if "count" not in args:
        return
    wanted = times * int(args["count"])
    if prune.unit in LAYERS:
        (pool,) = scope.pools
        if wanted > pool.remaining:
            yield Diagnostic(
                "TD408",
                f"`{prune.span.text}`: {model} has only {plural(pool.remaining, 'layer')} that can be removed",
                traced.amount_span,
                help=f"prune at most {pool.remaining}",
            )
    elif prune.scope == "global":
        free = sum(pool.remaining - pool.minimum for pool in scope.pools)
        if wanted > free:
            yield Diagnostic(
                "TD405",
                f"{plural(times, 'round')} of {args['count']} {prune.unit}: {model} can lose only {free}, because each "
                "layer keeps at least one",
                traced.amount_span,
                help="use a smaller count, or a percentage such as `20%`",
            )
    else:
        for pool in scope.pools:
            if wanted >= pool.remaining:
                verb = "removes" if times == 1 else "remove"
                yield Diagnostic(
                    "TD405",
                    f"{plural(times, 'round')} of {args['count']} {verb} all {pool.remaining} {prune.unit} of "
                    f"`{pool.name}`, which cuts the network",
                    traced.amount_span,
                    help="protect the layer with `except`, or use a smaller count",
                )
                return
