"""Check that a network takes the smaller images of `resize-from=`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.lang.syntax import Span
from tickdsl.plan.model import Arm, Retrain
from tickdsl.training import catalogue
from tickdsl.training.catalogue.input_shapes import InputShape, NamedShapes, is_tokens
from tickdsl.training.recipes.recipe import Recipe, resized_side


def diagnostics(arm: Arm, shape: InputShape) -> Iterator[Diagnostic]:
    """Yield findings (TD495) about the recipes of an arm whose first images do not fit its network.

    shape: of the arm's inputs.
    """
    if is_tokens(shape) or isinstance(shape, NamedShapes):
        return  # which have findings of their own
    place = arm.recipe_places.get("resize_from")
    yield from _check(arm, arm.recipe, shape, arm.recipe_span if place is None else place.span)
    for group in arm.distinct_rounds.values():
        for tail in group.tail:
            if isinstance(tail, Retrain) and tail.recipe.get("resize_from") != arm.recipe.get("resize_from"):
                yield from _check(arm, tail.recipe, shape, tail.span)


def _check(arm: Arm, fields: Mapping[str, Any], shape: tuple[int, ...], span: Span | None) -> Iterator[Diagnostic]:
    info = catalogue.MODELS[arm.model.name]
    try:
        recipe = Recipe.from_dict(fields)
    except ValueError:
        return  # it has a finding of its own
    if not recipe.resize_from or span is None:
        return
    network = (Label(arm.model.span, "the network"),) if arm.model.span is not None else ()
    if not info.any_size:
        message = f"`resize-from=` trains on images of several sizes, and {arm.model.name} takes those of one size only"
        help = "use a network with global pooling, such as fast-resnet, or remove it"
        yield Diagnostic("TD495", message, span, secondary=network, help=help)
        return
    eighths = max(1, round(8 * recipe.resize_from))
    sides = [resized_side(side, eighths) for side in shape[1:]]
    if info.size is None or all(side >= least for side, least in zip(sides, info.size, strict=True)):
        return
    enough = max(math.ceil(8 * least / side) for least, side in zip(info.size, shape[1:], strict=True))
    start = f"use `resize-from={enough * 12.5:g}%` or more" if enough < 8 else "remove it"
    yield Diagnostic(
        "TD495",
        f"the images of the first epoch have {sides[0]}×{sides[1]} pixels, and {arm.model.name} needs at least "
        f"{info.size[0]}×{info.size[1]}",
        span,
        secondary=network,
        help=start,
    )
