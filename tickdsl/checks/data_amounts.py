"""Check how many images an arm asks for: samples, validation, parts, batches (TD122, TD123, TD503, TD533)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.meaning.values import ValueLocation
from tickdsl.plan.model import Arm, Data, Retrain
from tickdsl.plurals import plural
from tickdsl.training import catalogue

#: Each part of a split needs so many images of every class: one would be alone in its class.
IMAGES_PER_CLASS = 2


def diagnostics(arm: Arm) -> Iterator[Diagnostic]:
    """Yield findings about numbers of images, as far as they are known without reading the data."""
    for data in (arm.data, *([arm.transfer.data] if arm.transfer is not None else [])):
        yield from _check_samples(data)
    images = catalogue.known_size(arm.data.name, "train", arm.data.options)
    classes = catalogue.known_classes(arm.data.name, arm.data.options)
    if images is None:
        return
    noun = catalogue.noun(arm.data.name)
    if arm.split is not None and arm.split.by == "samples" and classes is not None:
        most = images // (IMAGES_PER_CLASS * classes)
        if arm.split.parts > most:
            yield Diagnostic(
                "TD503",
                f"{plural(images, noun)} of {plural(classes, 'class')} cannot be split into "
                f"{arm.split.parts:,} parts of at least {IMAGES_PER_CLASS} {noun}s per class",
                arm.split.span,
                help=f"use at most `split samples {most}`" if most > 1 else f"remove the split, or use more {noun}s",
            )
            return
    if arm.split is not None:
        images //= arm.split.parts
    yield from _check_batches(arm, images)


def _check_samples(data: Data) -> Iterator[Diagnostic]:
    without = {name: value for name, value in data.options.items() if name not in ("samples", "validation")}
    yield from _check_validation(data, without)
    samples = data.options.get("samples")
    if not samples or "samples" in catalogue.DATASETS[data.name].factory_options:
        return
    images = catalogue.known_size(data.name, "train", without)
    classes = catalogue.known_classes(data.name, without)
    if images is not None and samples > images:
        message = f"`samples={samples}`: {data.name} has {plural(images, _training(data))}"
        yield Diagnostic("TD122", message, data.span, help="use fewer samples, or leave out `samples=`")
    elif classes is not None and samples < classes:
        noun = catalogue.noun(data.name)
        message = f"`samples={samples}`: {data.name} has {plural(classes, 'class')}, so some have no {noun}"
        yield Diagnostic("TD122", message, data.span, help=f"use at least {classes}, better some hundreds")


def _check_validation(data: Data, without: Mapping[str, Any]) -> Iterator[Diagnostic]:
    """Check that each class has an image for training and one for validation. without: the options that leave all."""
    if not catalogue.holds_out_validation(data.name, data.options):
        return
    images = catalogue.known_size(data.name, "train", without)
    samples = data.options.get("samples")
    if samples and "samples" not in catalogue.DATASETS[data.name].factory_options:
        images = samples if images is None else min(samples, images)
    classes = catalogue.known_classes(data.name, without)
    if images is None or classes is None or images >= 2 * classes:
        return
    noun = catalogue.noun(data.name)
    yield Diagnostic(
        "TD533",
        f"`validation=`: {plural(images, _training(data))} of {plural(classes, 'class')} cannot be divided, since "
        "each class needs one for training and one for validation",
        data.span,
        help=f"use at least {2 * classes} {noun}s, better some hundreds, or leave out `validation=`",
    )


def _check_batches(arm: Arm, images: int) -> Iterator[Diagnostic]:
    """Warn about batches, if the plan sets them, of more images than there are."""
    place: ValueLocation | None = (arm.recipe_places or {}).get("batch")
    if place is not None and arm.recipe.get("batch", 0) > images:
        yield _too_large(arm, int(arm.recipe["batch"]), images, place)
    for group in arm.distinct_rounds.values():
        for tail in group.tail:
            if isinstance(tail, Retrain) and (tail.given or {}).get("batch", 0) > images:
                yield _too_large(arm, int(tail.given["batch"]), images, ValueLocation(tail.span))


def _too_large(arm: Arm, batch: int, images: int, place: ValueLocation) -> Diagnostic:
    each = "each part of the split has" if arm.split is not None else f"{arm.data.name} has"
    return Diagnostic(
        "TD123",
        f"`batch={batch}`: {each} only {plural(images, _training(arm.data))}, so an epoch is a single step",
        place.span,
        secondary=place.references,
        help="use a smaller batch",
    )


def _training(data: Data) -> str:
    return f"training {catalogue.noun(data.name)}"
