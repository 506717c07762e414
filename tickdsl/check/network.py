"""What only the traced network can tell: patterns, ceilings, rounds that would change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tickdsl.errors import TickdslError
from tickdsl.graph.structure import Structure
from tickdsl.lang.diagnostics import Diagnostic, did_you_mean
from tickdsl.lang.values import percent
from tickdsl.plan.lower import prune_args
from tickdsl.plan.model import Arm, Plan, Prune
from tickdsl.run.study import dense_graph
from tickdsl.tickets.amounts import global_count, local_count, rounds_until
from tickdsl.tickets.patterns import matches
from tickdsl.tickets.scope import layer_names, scope
from tickdsl.training import catalogue


def findings(plan: Plan, data: Path | None) -> list[Diagnostic]:
    """Findings about every prune of every arm, on the dense network."""
    found: list[Diagnostic] = []
    for arm in plan.arms:
        try:
            graph = dense_graph(arm, data)
        except TickdslError as error:
            found.append(Diagnostic("TD413", error.message, arm.model.span, help=error.hint))
            continue
        names = layer_names(graph)
        for index, group in enumerate(arm.rounds):
            patterns = list(_patterns(arm, group.prune, names))
            found += patterns
            if not patterns:
                found += _amount(arm, group.prune, graph, first=index == 0)
    return found


def _patterns(arm: Arm, prune: Prune, names: list[str]) -> Iterator[Diagnostic]:
    pairs = [*zip(prune.within, prune.within_spans, strict=True), *zip(prune.protect, prune.protect_spans, strict=True)]
    for pattern, span in pairs:
        if not any(matches(pattern, name) for name in names):
            near = did_you_mean(pattern, names)
            yield Diagnostic(
                "TD402",
                f'"{pattern}" matches no layer of {arm.model.name}',
                span,
                label=near or "",
                help=f"its layers: {', '.join(names[:8])}{' …' if len(names) > 8 else ''}",
            )
    for pattern, span in zip(prune.protect, prune.protect_spans, strict=True):
        if all(matches(pattern, name) for name in names):
            yield Diagnostic("TD403", f'`except "{pattern}"` protects every layer: nothing is left to prune', span)


def _amount(arm: Arm, prune: Prune, graph: object, first: bool) -> Iterator[Diagnostic]:
    from tickdsl.graph.model import ModelGraph

    assert isinstance(graph, ModelGraph)
    if prune.by == "bn-scale" and not catalogue.MODELS[arm.model.name].batch_norm:
        yield Diagnostic(
            "TD312",
            f"`by bn-scale` ranks filters with a batch norm; {arm.model.name} has none",
            prune.by_span or prune.span,
            help="use magnitude or l1",
        )
    if prune.unit == "filters" and prune.scope == "global" and prune.by in ("l1", "magnitude"):
        favoured = "wide" if prune.by == "l1" else "narrow"
        yield Diagnostic(
            "TD411",
            f"a global ranking by `{prune.by}` favours layers of {favoured} fan-in; others may shrink to one filter",
            prune.by_span or prune.span,
            help="use `by l2`, whose norms are alike in all layers",
        )
    args = prune_args(prune, 0, prune.times or 1, head=arm.split is not None)
    try:
        found = scope(graph, Structure.dense(graph), args)
        if prune.until is not None:
            rounds = rounds_until(found, args, float(prune.until))
            most = "at most " if arm.split else ""
            yield Diagnostic(
                "TD903",
                f"`until {percent(prune.until)}` = {most}{rounds} rounds on {arm.model.name}",
                prune.span,
            )
        counts = [global_count(found, args)] if prune.scope == "global" else [local_count(p, args) for p in found.pools]
    except TickdslError as error:
        yield Diagnostic("TD404", error.message, prune.amount_span or prune.span, help=error.hint)
        return
    if first and not any(counts):
        smallest = min(pool.left for pool in found.pools)
        yield Diagnostic(
            "TD202",
            f"this round would change nothing: the amount rounds to 0 of {smallest} {prune.unit}",
            prune.amount_span or prune.span,
            help="take a larger amount",
        )
