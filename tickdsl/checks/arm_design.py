"""One arm's design: its splits, its ends, whether the network takes the data."""

from __future__ import annotations

from collections.abc import Iterator

from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.moments import INIT, Moment
from tickdsl.plan.model import Arm, Overlap, Retrain, Rewind, Rounds
from tickdsl.training import catalogue


def diagnostics(arm: Arm) -> Iterator[Diagnostic]:
    """Findings about an arm's design."""
    yield from _check_split(arm)
    yield from _check_until(arm)
    yield from _check_settling(arm)
    yield from _check_input(arm)


def _check_split(arm: Arm) -> Iterator[Diagnostic]:
    if arm.split is None:
        return
    classes = catalogue.known_size(arm.data.name, "classes", arm.data.options)
    if arm.split.by == "classes" and classes is not None and arm.split.parts > classes // 2:
        yield Diagnostic(
            "TD503",
            f"cannot split {classes} classes into {arm.split.parts} parts of two or more",
            arm.split.span,
            help=f"at most `split classes {classes // 2}`",
        )
    for group in arm.rounds:
        yield from _check_parts(arm, group)


def _check_parts(arm: Arm, group: Rounds) -> Iterator[Diagnostic]:
    assert arm.split is not None
    split = (Label(arm.split.span, "the split"),)
    if not any(isinstance(tail, Overlap) for tail in group.tail):
        yield Diagnostic(
            "TD501",
            f"the {arm.split.parts} parts each prune for themselves and nothing joins what they keep",
            group.prune.span,
            secondary=split,
            help="add `overlap` behind this prune",
        )
    at_init = group.prune.at is not None and not group.prune.at.amount
    if at_init:
        return  # nothing was trained: the parts still share their weights
    if any(isinstance(tail, Retrain) and tail.fresh for tail in group.tail):
        return  # drawn anew: the same for all
    rewinds = [tail for tail in group.tail if isinstance(tail, Rewind)]
    if not rewinds or rewinds[-1].what == "lr":
        yield Diagnostic(
            "TD517",
            "the parts would each keep weights of their own, so the ticket would have none",
            rewinds[-1].span if rewinds else group.prune.span,
            secondary=split,
            help="write `rewind weights to init` (or a later moment)",
        )


def _check_settling(arm: Arm) -> Iterator[Diagnostic]:
    """What `until mask-distance` needs: a training in epochs before it, and behind it a word on where to go on."""
    length, behind_training, start = Moment.parse(str(arm.recipe["length"])), True, INIT
    for group in arm.rounds:
        starts = [tail for tail in group.tail if isinstance(tail, Rewind | Retrain)]
        if group.prune.settles is not None:
            moments = [length, *([group.prune.at] if group.prune.at else []), *([start] if start.amount else [])]
            if not all(_in_epochs(moment, length) for moment in moments):
                message = "a choice settles from epoch to epoch: `until mask-distance` needs whole epochs"
                way = "write the length of `train`, and `at`, in epochs; `at 20ep` is the latest that it is made"
                yield Diagnostic("TD302", message, group.prune.span, help=way)
            if not behind_training:
                message = "nothing is trained before this prune in which its choice could settle"
                yield Diagnostic("TD006", message, group.prune.span, help="put a `rewind` or a `retrain` before it")
            if not starts:
                message = "`until mask-distance` does not go on by itself: when its choice is made is known once it is"
                way = "add `rewind lr`, `rewind weights` or `retrain …` behind it"
                yield Diagnostic("TD006", message, group.prune.span, help=way)
        behind_training = bool(starts)
        start = starts[-1].to if starts and isinstance(starts[-1], Rewind) else INIT


def _in_epochs(moment: Moment, length: Moment) -> bool:
    """Whether a moment of a recipe of that length is a whole number of epochs, at least one."""
    if moment.unit == "%":
        moment = Moment(moment.amount * length.amount / 100, length.unit)
    return moment.unit == "ep" and moment.amount >= 1 and moment.amount.denominator == 1


def _check_until(arm: Arm) -> Iterator[Diagnostic]:
    for place, group in enumerate(arm.rounds):
        overlaps = [tail for tail in group.tail if isinstance(tail, Overlap)]
        if group.prune.until is not None and arm.split and any(o.at_least < arm.split.parts for o in overlaps):
            yield Diagnostic(
                "TD006",
                "`until` with an overlap of some parts only cannot be carried out: nothing bounds the rounds it takes",
                group.prune.span,
                help="give the number of rounds: `x N`, or let `overlap` ask for all parts",
            )
        if place == len(arm.rounds) - 1:
            continue
        if group.prune.ends is not None:
            yield Diagnostic(
                "TD006",
                "an `until` with a condition ends the arm: no other prune can come behind it",
                group.prune.span,
                help="give the number of rounds: `x N`",
            )
        counted = place == 0 and not overlaps
        if group.prune.until is not None and not counted:
            yield Diagnostic(
                "TD006",
                "`until` in the middle of a pipeline is not carried out by this version",
                group.prune.span,
                help="give the number of rounds: `x N`",
            )


def _check_input(arm: Arm) -> Iterator[Diagnostic]:
    """Whether the network takes the data's pictures, as far as the catalogue knows without loading them."""
    data, model = catalogue.DATASETS[arm.data.name], catalogue.MODELS[arm.model.name]
    if data.shape is None:
        return
    channels, height, width = data.shape
    channels = int(arm.data.options.get("channels", channels))
    size = int(arm.data.options.get("size", 0))
    height, width = (size, size) if size else (height, width)
    cure = []
    if model.channels is not None and channels != model.channels:
        cure.append(f"channels={model.channels}")
    if model.size is not None:
        least_height, least_width = model.size
        exact = model.exact_size and (height, width) != model.size
        if exact or height < least_height or width < least_width:
            cure.append(f"size={least_height}")
    if cure:
        wants = (
            f"{model.channels or 'any'}×{model.size[0]}×{model.size[1]}" if model.size else f"{model.channels} channels"
        )
        yield Diagnostic(
            "TD413",
            f"{arm.model.name} takes pictures of {wants}{'' if model.exact_size else ' or more'}; "
            f"{arm.data.name} gives {channels}×{height}×{width}",
            arm.model.span,
            secondary=(Label(arm.data.span, "the data"),),
            help=f"write `data {arm.data.name} {' '.join(cure)}`, or choose another model",
        )
