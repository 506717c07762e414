"""Which images of a folder or an archive are for training and which for testing, and their classes."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence

import attrs

from tickdsl.errors import TickdslError
from tickdsl.printable import printable_line
from tickdsl.training.data.readers.file_entries import SPLITS, Entry, split_and_class

_LAYOUT = "it must contain train/CLASS/*.jpg and test/CLASS/*.jpg"
#: Names of folders that are probably parts of a data set, not classes.
_PARTS = frozenset({*SPLITS, "training", "testing", "valid", "validation", "dev", "eval"})


@attrs.frozen(order=True)
class Place:
    """Where an image belongs: a split, or "" if that is not decided by its folder; its class; and its name."""

    split: str
    label: str
    name: str
    entry: Entry = attrs.field(order=False, repr=False)


def arrange(path: object, images: Iterable[Entry], test_share: float) -> list[Place]:
    """The places of images, in order.

    With a `test_share`, images in class folders, or below `train/` if there is such a folder, have no split yet.
    Raises TickdslError if there is nothing to train or test on, or both a test set and a share for one.
    """
    images = list(images)
    places = sorted(
        Place(*position, image.name, image) for image in images if (position := split_and_class(image.name))
    )
    counts = {split: sum(place.split == split for place in places) for split in SPLITS}
    has_test = counts["test"] or counts["val"]
    if test_share and has_test:
        part = "test" if counts["test"] else "val"
        raise TickdslError(f"{path} has test images in {part}/ already", f"leave out test=, or remove {part}/")
    if test_share:
        undecided = [attrs.evolve(place, split="") for place in places] or _class_folders(images)
        if not undecided:
            raise TickdslError(f"{path} has no images in class folders", "it must contain CLASS/*.jpg")
        _require_no_parts(path, {place.label for place in undecided})
        return undecided
    for purpose, found in (("train", counts["train"]), ("test", has_test)):
        if not found:
            raise _missing(path, purpose, bool(counts["train"]), images)
    used = ("train", "test" if counts["test"] else "val")
    return [place for place in places if place.split in used]


def _missing(path: object, purpose: str, has_training: bool, images: Sequence[Entry]) -> TickdslError:
    classes = {place.label for place in _class_folders(images)}
    if has_training or (len(classes) > 1 and not any(map(_is_part, classes))):
        message = f"{path} has no images to test on" if has_training else f"{path} has class folders, but no train/"
        return TickdslError(message, f"add test=20% to `data` to test on a fifth of each class; or {_LAYOUT}")
    _require_no_parts(path, classes)
    return TickdslError(f"{path} has no images to {purpose} on", _LAYOUT)


def _class_folders(images: Sequence[Entry]) -> list[Place]:
    """The places of images in class folders: the first folder that is not common to all images is the class."""
    folders = [posixpath.dirname(image.name) for image in images]
    if not all(folders):
        images = [image for image, folder in zip(images, folders, strict=True) if folder]
        folders = [folder for folder in folders if folder]
    if not folders:
        return []
    common = posixpath.commonpath(folders).split("/") if len(set(folders)) > 1 else folders[0].split("/")[:-1]
    depth = len([part for part in common if part])
    return sorted(
        Place("", parts[depth], image.name, image)
        for image in images
        if len(parts := image.name.split("/")) > depth + 1
    )


def _require_no_parts(path: object, classes: set[str]) -> None:
    part = next(filter(_is_part, sorted(classes)), None)
    if part is not None:
        raise TickdslError(
            f"{path}: the folder `{printable_line(part)}` would be a class",
            "name the folders of the parts train/ and test/",
        )


def _is_part(name: str) -> bool:
    return name.lower() in _PARTS
