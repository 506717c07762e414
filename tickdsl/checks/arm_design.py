"""Check the design of an arm: its split, its `until` conditions, and whether the network fits the data."""

from __future__ import annotations

from collections.abc import Iterator

from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.moments import INIT, Moment
from tickdsl.plan.model import Arm, Overlap, Retrain, Rewind, Rounds
from tickdsl.training import catalogue
from tickdsl.training.catalogue.input_shapes import is_tokens


def diagnostics(arm: Arm) -> Iterator[Diagnostic]:
    """Yield findings about an arm's design."""
    yield from _check_split(arm)
    yield from _check_until(arm)
    yield from _check_settling(arm)
    yield from _check_input(arm)


def _check_split(arm: Arm) -> Iterator[Diagnostic]:
    if arm.split is None or not arm.rounds:  # a network that is not pruned is trained on all data
        return
    classes = catalogue.known_classes(arm.data.name, arm.data.options)
    if arm.split.by == "classes" and classes is not None and arm.split.parts > classes // 2:
        yield Diagnostic(
            "TD503",
            f"{classes} classes cannot be split into {arm.split.parts} parts of at least 2 classes",
            arm.split.span,
            help=f"use at most `split classes {classes // 2}`"
            if classes > 3
            else "use `split samples`, or more classes",
        )
    for group in arm.rounds:
        yield from _check_parts(arm, group)


def _check_parts(arm: Arm, group: Rounds) -> Iterator[Diagnostic]:
    assert arm.split is not None
    split = (Label(arm.split.span, "split here"),)
    if not any(isinstance(tail, Overlap) for tail in group.tail):
        yield Diagnostic(
            "TD501",
            f"the {arm.split.parts} parts are pruned separately, and no `overlap` combines them",
            group.prune.span,
            secondary=split,
            help="add `overlap` after this prune",
        )
    at_init = group.prune.at is not None and not group.prune.at.amount
    if at_init:
        return  # nothing is trained yet: the parts still share their weights
    if any(isinstance(tail, Retrain) and tail.fresh for tail in group.tail):
        return  # the parts share fresh weights
    rewinds = [tail for tail in group.tail if isinstance(tail, Rewind)]
    if not rewinds or rewinds[-1].what == "lr":
        yield Diagnostic(
            "TD517",
            "each part keeps its own trained weights, so the combined ticket has no weights to start from",
            rewinds[-1].span if rewinds else group.prune.span,
            secondary=split,
            help="use `rewind weights to init` (or a later point)",
        )


def _check_settling(arm: Arm) -> Iterator[Diagnostic]:
    """Check that `until mask-distance` has a training in epochs before it, and a `rewind` or `retrain` after it."""
    length, after_training, start = Moment.parse(str(arm.dense_recipe["length"])), True, INIT
    for group in arm.rounds:
        starts = [tail for tail in group.tail if isinstance(tail, Rewind | Retrain)]
        if group.prune.settles is not None:
            moments = [length, *([group.prune.at] if group.prune.at else []), *([start] if start.amount else [])]
            if not all(_in_epochs(moment, length) for moment in moments):
                message = "`until mask-distance` compares epochs, so it needs lengths in whole epochs"
                help = "give the length of `train`, and `at`, in epochs; `at 20ep` prunes after 20 epochs at the latest"
                yield Diagnostic("TD302", message, group.prune.span, help=help)
            if not after_training:
                message = "`until mask-distance` needs a training before this prune"
                yield Diagnostic("TD006", message, group.prune.span, help="add `rewind …` or `retrain …` before it")
            if not starts:
                message = "`until mask-distance` needs a statement after it that says how training continues"
                help = "add `rewind lr`, `rewind weights` or `retrain …` after it"
                yield Diagnostic("TD006", message, group.prune.span, help=help)
        after_training = bool(starts)
        start = starts[-1].to if starts and isinstance(starts[-1], Rewind) else INIT


def _in_epochs(moment: Moment, length: Moment) -> bool:
    """Whether a moment of a recipe of this length is a whole number of epochs, at least 1."""
    if moment.unit == "%":
        moment = Moment(moment.amount * length.amount / 100, length.unit)
    return moment.unit == "ep" and moment.amount >= 1 and moment.amount.denominator == 1


def _check_until(arm: Arm) -> Iterator[Diagnostic]:
    for place, group in enumerate(arm.rounds):
        overlaps = [tail for tail in group.tail if isinstance(tail, Overlap)]
        if group.prune.until is not None and arm.split and any(o.at_least < arm.split.parts for o in overlaps):
            yield Diagnostic(
                "TD006",
                "`until` is not supported with an `overlap` of only some parts: the number of rounds has no bound",
                group.prune.span,
                help="use `x N`, or let `overlap` require all parts",
            )
        if place == len(arm.rounds) - 1 and not group.cycles:
            continue
        if group.prune.ends is not None:
            other = "cycle" if group.cycles else "other prune"
            yield Diagnostic(
                "TD006",
                f"`until` with a condition ends the arm, so no {other} can follow it",
                group.prune.span,
                help="use a fixed number of rounds: `x N`",
            )
        counted = place == 0 and not overlaps
        if group.prune.until is not None and not counted:
            yield Diagnostic(
                "TD006",
                "`until` in the middle of a pipeline is not supported yet",
                group.prune.span,
                help="use a fixed number of rounds: `x N`",
            )


def _check_input(arm: Arm) -> Iterator[Diagnostic]:
    """Check that the network accepts the data's inputs, as far as the catalogue knows their shape."""
    data, model = catalogue.DATASETS[arm.data.name], catalogue.MODELS[arm.model.name]
    if data.shape is None or is_tokens(data.shape) or model.inputs == "tokens":
        return  # other inputs than the network's are found when it is built
    channels, height, width = data.shape
    channels = int(arm.data.options.get("channels", channels))
    size = int(arm.data.options.get("size", 0))
    height, width = (size, size) if size else (height, width)
    needed = []
    if model.channels is not None and channels != model.channels:
        needed.append(f"channels={model.channels}")
    if model.size is not None:
        least_height, least_width = model.size
        exact = model.exact_size and (height, width) != model.size
        if exact or height < least_height or width < least_width:
            needed.append(f"size={least_height}")
    if needed:
        images = f"{model.channels}-channel images" if model.channels else "images"
        if model.size is not None:
            images += f" of {'' if model.exact_size else 'at least '}{model.size[0]}×{model.size[1]}"
        yield Diagnostic(
            "TD413",
            f"{arm.model.name} needs {images}, but {arm.data.name} has {channels}-channel images of {height}×{width}",
            arm.model.span,
            secondary=(Label(arm.data.span, "the data"),),
            help=f"use `data {arm.data.name} {' '.join(needed)}`, or another model",
        )
