"""Check what a prune removes: its unit and its layer patterns, on the traced network."""

from __future__ import annotations

from collections.abc import Iterator

from tickdsl.checks.traced_prune import TracedPrune
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.findings.suggestions import did_you_mean, join_or
from tickdsl.pruning.patterns import matches
from tickdsl.pruning.scope import GROUP_KINDS, LAYERS, layer_names, matches_any
from tickdsl.training import catalogue


def check_unit(traced: TracedPrune) -> Iterator[Diagnostic]:
    """Check that the network has such units, and the criterion what it needs (TD401, TD312)."""
    model, prune = traced.arm.model.name, traced.prune
    if prune.unit in LAYERS and not traced.graph.layers:
        yield Diagnostic(
            "TD401",
            f"{model} has no layers that can be removed",
            prune.span,
            notes=tuple(f"{block.name} {block.reason}" for block in traced.graph.blocks[:3]),
            help="only layers that keep the shape of their input can be removed, as in resnet* and vgg*",
        )
    elif prune.unit in GROUP_KINDS:
        kind = GROUP_KINDS[prune.unit]
        if not any(group.kind == kind and group.reason is None for group in traced.graph.channels):
            yield _no_units(traced, kind)
    if prune.by == "bn-scale" and not catalogue.MODELS[model].batch_norm:
        yield Diagnostic(
            "TD312",
            f"`by bn-scale` needs batch normalization, which {model} does not have",
            prune.by_span or prune.span,
            help="use `by l2` or `by magnitude`",
        )


def _no_units(traced: TracedPrune, kind: str) -> Diagnostic:
    """The finding of a network without removable units of a kind: why those that it has stay, and what it has."""
    groups = traced.graph.channels
    fixed = [group for group in groups if group.kind == kind]
    others = [unit for unit, other in GROUP_KINDS.items() if any(g.kind == other and g.reason is None for g in groups)]
    return Diagnostic(
        "TD401",
        f"{traced.arm.model.name} has no {traced.prune.unit} to prune",
        traced.prune.span,
        notes=tuple(f"{group.name}: {group.reason}" for group in fixed[:3]),
        help=f"try `prune {join_or(others or ['weights'])}`",
    )


def check_patterns(traced: TracedPrune) -> Iterator[Diagnostic]:
    """Check that patterns match layers, and leave some to prune (TD402, TD403)."""
    names = layer_names(traced.graph)
    for pattern, span in (*traced.within, *traced.protect):
        if not any(matches(pattern, name) for name in names):
            yield Diagnostic(
                "TD402",
                f'"{pattern}" matches no layer of {traced.arm.model.name}',
                span,
                label=did_you_mean(pattern, names) or "",
                help=f"available layers: {_listed(names, 8)}",
            )
    for pattern, span in traced.protect:
        if all(matches(pattern, name) for name in names):
            yield Diagnostic("TD403", f'`except "{pattern}"` protects every layer: nothing is left to prune', span)


def check_coupled(traced: TracedPrune) -> Iterator[Diagnostic]:
    """Check that `except` names all of a set of coupled layers, or none (TD406).

    Layers that feed the same addition must lose the same filters.
    """
    prune = traced.prune
    if prune.unit not in GROUP_KINDS:
        return
    for group in traced.graph.channels:
        if group.kind != GROUP_KINDS[prune.unit] or group.reason is not None:
            continue
        for pattern, span in traced.protect:
            inside = [path for path in group.producers if matches(pattern, path)]
            outside = [path for path in group.producers if not matches_any(prune.protect, path)]
            if inside and outside:
                layers = _listed([*inside, *outside], 6)
                yield Diagnostic(
                    "TD406",
                    f"`except` must name all or none of {layers}: coupled layers lose the same {prune.unit}",
                    span,
                    label=f"names {_listed(inside, 4)}",
                    notes=(f"not named: {_listed(outside, 4)}",),
                    help="name all of them or none",
                )
                return


def check_coupled_alone(traced: TracedPrune) -> Iterator[Diagnostic]:
    """Check that `in` names coupled layers together (TD410): one of them alone would lose nothing."""
    prune = traced.prune
    if prune.unit not in GROUP_KINDS:
        return
    for pattern, span in traced.within:
        touched = [
            group
            for group in traced.graph.channels
            if group.kind == GROUP_KINDS[prune.unit]
            and group.reason is None
            and any(matches(pattern, path) for path in group.producers)
        ]
        missing = [[path for path in group.producers if not matches_any(prune.within, path)] for group in touched]
        if touched and all(missing):
            inside = _listed([path for path in touched[0].producers if matches(pattern, path)], 4)
            yield Diagnostic(
                "TD410",
                f"{inside} cannot lose {prune.unit} alone: {_listed(missing[0], 4)} must lose the same ones",
                span,
                help=f"name all of them: `in {', '.join(touched[0].producers)}`",
            )


def check_not_removable(traced: TracedPrune) -> Iterator[Diagnostic]:
    """Check that `in` names no layer that cannot be removed, and not only the classifier (TD407, TD409)."""
    unit = traced.prune.unit
    for pattern, span in traced.within:
        if unit in LAYERS:
            chosen = [block for block in traced.graph.blocks if block.name == pattern]
            if chosen and chosen[0].reason is not None:
                message = f"{pattern} cannot be removed ({chosen[0].reason})"
                removable = [block.name for block in traced.graph.layers]
                yield Diagnostic("TD407", message, span, help=f"removable layers: {_listed(removable, 8)}")
        elif unit in GROUP_KINDS:
            outputs = [info.module for info in traced.graph.weights.values() if info.is_output]
            named = [name for name in layer_names(traced.graph) if matches(pattern, name)]
            if named and set(named) <= set(outputs):
                yield Diagnostic(
                    "TD409",
                    f"the classifier `{named[0]}` cannot lose {unit}: its outputs are the classes",
                    span,
                    help="remove it from `in`, or use `prune weights`",
                )


def check_global_norms(traced: TracedPrune) -> Iterator[Diagnostic]:
    """Warn about global rankings by norms that depend on the fan-in of a layer (TD411)."""
    prune = traced.prune
    if prune.unit == "filters" and prune.scope == "global" and prune.by in ("l1", "magnitude"):
        favoured = "large" if prune.by == "l1" else "small"
        yield Diagnostic(
            "TD411",
            f"`global … by {prune.by}` favours layers with a {favoured} fan-in; others may shrink to one filter",
            prune.by_span or prune.span,
            help="use `by l2`, which is comparable across layers",
        )


def _listed(names: list[str], limit: int) -> str:
    """Names for a message: `a, b and c`, or the first `limit` of them."""
    if len(names) > limit or len(names) < 2:
        return join_or(names, limit)
    return f"{', '.join(names[:-1])} and {names[-1]}"
