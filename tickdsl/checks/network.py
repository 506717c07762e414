"""What only the traced network can tell: patterns, coupled layers, ceilings, rounds that would change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs

from tickdsl.checks import plugins
from tickdsl.checks.schedules import arm_steps_per_epoch
from tickdsl.engine.graph_cache import DEFAULT_DATA_DIR, dense_graph, image_shape_and_classes
from tickdsl.errors import TickdslError
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.lang.findings.diagnostics import Diagnostic, Label, did_you_mean, join_or
from tickdsl.lang.writing.literals import percent
from tickdsl.plan.lower import lower, prune_args
from tickdsl.plan.model import Arm, Matching, Plan, Prune, Stages
from tickdsl.plugins import PluginError
from tickdsl.pruning.allocation import resolve_amounts
from tickdsl.pruning.patterns import matches
from tickdsl.pruning.round_forecast import forecast_rounds, max_rounds, rounds_until
from tickdsl.pruning.scope import GROUP_KINDS, LAYERS, Scope, find_scope, layer_names, matches_any
from tickdsl.training import catalogue

#: Plans of more pipelines than this are not lowered for a note.
MAX_PIPELINES = 24


def diagnostics(arm: Arm, data: Path | None, *, random_rival: bool = False) -> Iterator[Diagnostic]:
    """Findings about every prune of an arm, on its dense network.

    `random_rival`: the arm is compared with a random structure.
    """
    span = arm.data.span
    try:
        image_shape_and_classes(arm.data, data or DEFAULT_DATA_DIR)
        span = arm.model.span
        if arm.model.weights_file is not None and not Path(arm.model.weights_file).is_file():
            raise TickdslError(f"there are no weights at {arm.model.weights_file}", "name a file that is there")
        fetched = arm.model.options.get("weights") == catalogue.DEFAULT_WEIGHTS
        if fetched and not catalogue.MODELS[arm.model.name].has_fetchable_weights:
            hint = "name a file, or take a network of torchvision"
            raise TickdslError(f"there are no weights of {arm.model.name} to fetch", hint)
        graph = dense_graph(arm, data)
        span = arm.transfer.data.span if arm.transfer is not None else span
        move = list(_check_transfer(arm, data or DEFAULT_DATA_DIR))
    except PluginError as error:
        yield plugins.plugin_diagnostic(error, span)
        return
    except TickdslError as error:
        yield Diagnostic("TD413", error.message, span, help=error.hint)
        return
    yield from move
    yield from plugins.diagnostics(arm, arm_steps_per_epoch(arm), data or DEFAULT_DATA_DIR)
    for place, group in enumerate(arm.rounds):
        prune = _PruneCheck(
            arm, group.prune, graph, first=place == 0, only=len(arm.rounds) == 1, random_rival=random_rival
        )
        for check in _CHECKS:
            found = list(check(prune))
            yield from found
            if any(d.severity == "error" for d in found):
                break  # what follows would only be its consequence


def _check_transfer(arm: Arm, root: Path) -> Iterator[Diagnostic]:
    """Whether the network that was pruned on one data set takes the pictures and has the classes of the other."""
    if arm.transfer is None:
        return
    move = arm.transfer
    (shape, classes), (other, others) = (
        image_shape_and_classes(arm.data, root),
        image_shape_and_classes(move.data, root),
    )
    if shape != other:
        sizes = ["×".join(map(str, each)) for each in (shape, other)]
        yield Diagnostic(
            "TD413",
            f"the ticket takes pictures of {sizes[0]}; {move.data.name} gives {sizes[1]}",
            move.data.span,
            secondary=(Label(arm.data.span, "found on these"),),
            help=f"give both one shape with `size=` and `channels=`, e.g. size={shape[1]} channels={shape[0]}",
        )
    elif move.head == "keep" and classes != others:
        yield Diagnostic(
            "TD412",
            f"the head has {classes} outputs for {arm.data.name}; {move.data.name} has {others} classes",
            move.span,
            help="write `head=reset`",
        )


@attrs.frozen
class _PruneCheck:
    """One prune of an arm on its dense network."""

    arm: Arm
    prune: Prune
    graph: ModelGraph
    first: bool
    #: Whether it is the arm's only prune.
    only: bool
    #: Whether `compare` asks for `random-structure`.
    random_rival: bool

    @property
    def patterns(self) -> Iterator[tuple[str, Any]]:
        yield from zip(self.prune.within, self.prune.within_spans or (), strict=True)
        yield from zip(self.prune.protect, self.prune.protect_spans or (), strict=True)

    @property
    def amount_span(self) -> Any:
        return self.prune.amount_span or self.prune.span

    def args(self, index: int = 0) -> dict[str, Any]:
        args = prune_args(self.prune, index, self.prune.times or 1, head=self.arm.protects_head)
        return dict(resolve_amounts(self.graph, Structure.dense(self.graph), args))

    def scope(self) -> Scope:
        return find_scope(self.graph, Structure.dense(self.graph), self.args())


def shared_trainings(plan: Plan, data: Path | None) -> Iterator[Diagnostic]:
    """How many trainings the arms and seeds share."""
    if len(plan.arms) == 1 or len(plan.arms) * len(plan.seeds) > MAX_PIPELINES:
        return

    def rounds(arm: Arm, prune: Prune) -> int:
        if prune.until is None and prune.ends is None:
            return prune.times or 1
        at = _PruneCheck(arm, prune, dense_graph(arm, data), first=True, only=True, random_rival=False)
        if prune.until is None:
            return max_rounds(at.scope(), at.args)
        return rounds_until(at.scope(), at.args, float(prune.until))

    # Equal data are equal by name and options: nothing is read.
    study = lower(plan, fingerprint=lambda spec: repr((spec.name, sorted(spec.options.items()))), rounds=rounds)
    saved = study.naive_trainings - study.trainings
    if saved > 0:
        yield Diagnostic(
            "TD904",
            f"{len(plan.arms)} arms and {len(plan.seeds)} seed{'s' * (len(plan.seeds) != 1)} share "
            f"{saved} of {study.naive_trainings} trainings: {study.trainings} run",
            plan.compare_span or plan.arms[0].span,
        )


def _check_unit(at: _PruneCheck) -> Iterator[Diagnostic]:
    model, prune = at.arm.model.name, at.prune
    if prune.unit in LAYERS and not at.graph.layers:
        reasons = [f"{block.name} {block.reason}" for block in at.graph.blocks[:3]]
        yield Diagnostic(
            "TD401",
            f"no layer of {model} can go whole",
            prune.span,
            notes=tuple(reasons),
            help="layers must leave the picture's shape as it is; resnet* and vgg* have such layers",
        )
    elif prune.unit in GROUP_KINDS:
        kind = GROUP_KINDS[prune.unit]
        if not any(group.kind == kind and group.reason is None for group in at.graph.channels):
            other = "neurons" if prune.unit == "filters" else "filters"
            yield Diagnostic("TD401", f"{model} has no {prune.unit} to prune", prune.span, help=f"try `prune {other}`")
    if prune.by == "bn-scale" and not catalogue.MODELS[model].batch_norm:
        yield Diagnostic(
            "TD312",
            f"`by bn-scale` ranks filters with a batch norm; {model} has none",
            prune.by_span or prune.span,
            help="use l2 or magnitude",
        )


def _check_patterns(at: _PruneCheck) -> Iterator[Diagnostic]:
    names = layer_names(at.graph)
    for pattern, span in at.patterns:
        if not any(matches(pattern, name) for name in names):
            near = did_you_mean(pattern, names)
            yield Diagnostic(
                "TD402",
                f'"{pattern}" matches no layer of {at.arm.model.name}',
                span,
                label=near or "",
                help=f"its layers: {join_or(names, 8)}",
            )
    for pattern, span in zip(at.prune.protect, at.prune.protect_spans or (), strict=True):
        if all(matches(pattern, name) for name in names):
            yield Diagnostic("TD403", f'`except "{pattern}"` protects every layer: nothing is left to prune', span)


def _check_coupled(at: _PruneCheck) -> Iterator[Diagnostic]:
    """Layers that feed one addition must lose the same filters: a plan cannot protect some and prune others."""
    if at.prune.unit not in GROUP_KINDS:
        return
    for group in at.graph.channels:
        if group.kind != GROUP_KINDS[at.prune.unit] or group.reason is not None:
            continue
        for pattern, span in zip(at.prune.protect, at.prune.protect_spans or (), strict=True):
            inside = [path for path in group.producers if matches(pattern, path)]
            outside = [path for path in group.producers if not matches_any(at.prune.protect, path)]
            if inside and outside:
                yield Diagnostic(
                    "TD406",
                    f"{join_or([*inside, *outside], 6)} must lose the same filters; `except` names only some of them",
                    span,
                    label=f"names {join_or(inside, 4)}",
                    notes=(f"not named: {join_or(outside, 4)}",),
                    help="name all of them, or none",
                )
                return


def _check_named_alone(at: _PruneCheck) -> Iterator[Diagnostic]:
    """Layers that `in` names without those that must lose the same units: nothing of them would go."""
    prune = at.prune
    if prune.unit not in GROUP_KINDS:
        return
    for pattern, span in zip(prune.within, prune.within_spans or (), strict=True):
        touched = [
            group
            for group in at.graph.channels
            if group.kind == GROUP_KINDS[prune.unit]
            and group.reason is None
            and any(matches(pattern, path) for path in group.producers)
        ]
        missing = [[path for path in group.producers if not matches_any(prune.within, path)] for group in touched]
        if touched and all(missing):
            inside = [path for path in touched[0].producers if matches(pattern, path)]
            yield Diagnostic(
                "TD410",
                f"{join_or(inside, 4)} cannot lose {prune.unit} alone: {join_or(missing[0], 4)} lose the same ones",
                span,
                help=f"name them too: `in {', '.join(touched[0].producers)}`",
            )


def _check_named_targets(at: _PruneCheck) -> Iterator[Diagnostic]:
    """Targets of `in` that can never go."""
    for pattern, span in zip(at.prune.within, at.prune.within_spans or (), strict=True):
        if at.prune.unit in LAYERS:
            chosen = [block for block in at.graph.blocks if block.name == pattern]
            if chosen and chosen[0].reason is not None:
                message = f"{pattern} {chosen[0].reason}: it cannot be dropped"
                free = [block.name for block in at.graph.layers]
                yield Diagnostic("TD407", message, span, help=f"these can: {join_or(free, 8)}")
        elif at.prune.unit in GROUP_KINDS:
            outputs = [info.module for info in at.graph.weights.values() if info.is_output]
            hit = [name for name in layer_names(at.graph) if matches(pattern, name)]
            if hit and set(hit) <= set(outputs):
                yield Diagnostic(
                    "TD409",
                    f"the classifier `{hit[0]}` gives the classes; it is never pruned by units",
                    span,
                    help="remove it from `in`, or use `prune weights`",
                )


def _check_global_norms(at: _PruneCheck) -> Iterator[Diagnostic]:
    prune = at.prune
    if prune.unit == "filters" and prune.scope == "global" and prune.by in ("l1", "magnitude"):
        favoured = "wide" if prune.by == "l1" else "narrow"
        yield Diagnostic(
            "TD411",
            f"a global ranking by `{prune.by}` favours layers of {favoured} fan-in; others may shrink to one filter",
            prune.by_span or prune.span,
            help="use `by l2`, whose norms are alike in all layers",
        )


def _check_stages(at: _PruneCheck) -> Iterator[Diagnostic]:
    if not isinstance(at.prune.amount, Stages):
        return
    try:
        at.args()
    except TickdslError as error:
        yield Diagnostic("TD211", error.message, at.amount_span, help=error.hint)


def _check_amount(at: _PruneCheck) -> Iterator[Diagnostic]:
    prune, arm = at.prune, at.arm
    if isinstance(prune.amount, Matching):
        return  # how much goes is known once the other arm has run
    try:
        found = at.scope()
        if prune.until is not None:
            rounds = rounds_until(found, at.args, float(prune.until))
            most = "at most " if arm.split else ""
            yield Diagnostic(
                "TD903", f"`until {percent(prune.until)}` = {most}{rounds} rounds on {arm.model.name}", prune.span
            )
        exhausted = list(_check_exhausted(at, found))
        if exhausted:
            yield from exhausted
            return
        counts = list(forecast_rounds(found, at.args, prune.times or 1 if prune.until is None else 1))
    except TickdslError as error:
        yield Diagnostic("TD404", error.message, at.amount_span, help=error.hint)
        return
    if at.first and 0 in counts:
        which = "this round" if len(counts) == 1 else f"round {counts.index(0) + 1} of {len(counts)}"
        yield Diagnostic(
            "TD202",
            f"{which} would change nothing: the amount rounds to 0 {prune.unit} of what is left by then",
            at.amount_span,
            help="take a larger amount, or fewer rounds",
        )


def _check_one_structure(at: _PruneCheck) -> Iterator[Diagnostic]:
    """Whole layers, all of which go: a random choice of as many is the same one."""
    prune = at.prune
    if not at.random_rival or prune.unit not in LAYERS or not at.only:
        return
    (pool,) = at.scope().pools
    gone = sum(forecast_rounds(at.scope(), at.args, prune.times or 1)) if prune.until is None else 0
    if gone == pool.remaining:
        yield Diagnostic(
            "TD515",
            f"all {pool.remaining} layers that can go do: `random-structure` would be the ticket's own structure",
            at.amount_span,
            help="compare with `random-init`",
        )


def _check_exhausted(at: _PruneCheck, found: Scope) -> Iterator[Diagnostic]:
    """Counts that ask for more than there is."""
    args, times = at.args(), at.prune.times or 1
    if "count" not in args:
        return
    wanted = times * int(args["count"])
    if at.prune.unit in LAYERS:
        (pool,) = found.pools
        if wanted > pool.remaining:
            yield Diagnostic(
                "TD408",
                f"`{at.prune.span.text}`: only {pool.remaining} layers of {at.arm.model.name} can go",
                at.amount_span,
                help=f"take at most {pool.remaining}",
            )
    elif at.prune.scope == "global":
        free = sum(pool.remaining - pool.minimum for pool in found.pools)
        if wanted > free:
            yield Diagnostic(
                "TD405",
                f"{times} rounds of {args['count']} {at.prune.unit}: only {free} of {at.arm.model.name} can go, "
                "the last of each layer stays",
                at.amount_span,
                help="take fewer, or a share such as `20%`",
            )
    else:
        for pool in found.pools:
            if wanted >= pool.remaining:
                yield Diagnostic(
                    "TD405",
                    f"{times} rounds of {args['count']} would leave `{pool.name}` none of its {pool.remaining} "
                    f"{at.prune.unit}: the network would be cut",
                    at.amount_span,
                    help="protect it with `except`, or take fewer",
                )
                return


_CHECKS: tuple[Callable[[_PruneCheck], Iterator[Diagnostic]], ...] = (
    _check_unit,
    _check_patterns,
    _check_coupled,
    _check_named_targets,
    _check_named_alone,
    _check_global_norms,
    _check_stages,
    _check_amount,
    _check_one_structure,
)
