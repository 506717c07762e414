"""Image folders, decoded once and cached as arrays.

They hold `train/CLASS/*` and `test/CLASS/*` (or `val/`); or only classes, of which a share becomes the test set. Tiny
ImageNet is read as one: its validation images, whose classes are in a table, are the test set.
"""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath

import attrs
import numpy as np

from tickdsl.errors import TickdslError
from tickdsl.printable import printable_line
from tickdsl.training.data.file_digests import files_digest
from tickdsl.training.data.readers import decoded_cache, layout
from tickdsl.training.data.readers.archives import Archive, open_tree
from tickdsl.training.data.readers.file_entries import Listing, Skipped
from tickdsl.training.data.readers.folder_tree import FolderTree
from tickdsl.training.data.readers.image_arrays import Conversion, require_equal_sizes
from tickdsl.training.data.readers.image_decoding import DecodedImage, decode
from tickdsl.training.data.readers.raw_dataset import RawDataset

#: Part of the name of a cached file; raise it when the arrays of the same files change.
_CACHE_VERSION = 2
_MAX_TABLE_BYTES = 1 << 26


@attrs.frozen
class ImageFolder:
    """A folder or an archive of images, decoded to RGB, or to greyscale if all images are.

    size: pixels per side that they are resized to (0: unchanged). test_share: the share of each class to test on (0:
    the folder has a test set). cache: the folder for decoded arrays; if it cannot be written, nothing is kept.
    """

    path: Path
    size: int
    test_share: float
    cache: Path

    def digest(self) -> str:
        """The hex SHA-256 of the files' names and bytes."""
        tree = open_tree(self.path)
        if isinstance(tree, FolderTree):
            return tree.digest(files_digest)
        return hashlib.sha256(files_digest([self.path]).encode()).hexdigest()

    def rules(self) -> tuple[str, ...]:
        """The rules that reading it takes (see RawDataset)."""
        key = self._cache_key()
        known = _rules_by_key.get(key)
        return self._read(key).rules if known is None else known

    def read(self) -> RawDataset:
        """The data set, with classes and images sorted by name.

        Raises TickdslError if the layout is wrong or a file cannot be read.
        """
        return self._read(self._cache_key())

    def skipped(self) -> tuple[str, ...]:
        """Notes on what is skipped in a folder: not in those of `read`, as these files are not part of the digest."""
        tree = open_tree(self.path)
        return _arranged(self.path, tree, self.test_share)[0].notes() if isinstance(tree, FolderTree) else ()

    def _read(self, key: str) -> RawDataset:
        file = self.cache / f"{key}.npz"
        raw = decoded_cache.load(file) if file.is_file() else None
        if raw is None:
            raw = _decode(self.path, self.size, self.test_share)
            if self._cache_key() == key:  # else it changed while it was read
                decoded_cache.save(raw, file)
        _rules_by_key[key] = raw.rules
        return raw

    def _cache_key(self) -> str:
        text = f"{_CACHE_VERSION} {self.digest()} {self.size} {self.test_share}"
        return hashlib.sha256(text.encode()).hexdigest()[:24]


#: The rules of data sets that this process has read, by their key in the cache.
_rules_by_key: dict[str, tuple[str, ...]] = {}


@attrs.frozen(eq=False)
class _Image:
    place: layout.Place
    decoded: DecodedImage
    digest: bytes


def _decode(path: Path, size: int, test_share: float) -> RawDataset:
    tree = open_tree(path)
    listing, places = _arranged(path, tree, test_share)
    labels = _table_of_classes(tree, listing)
    images = _read_images(path, tree, places, size)
    if test_share:
        images = _with_test_images(path, images, test_share)
    else:
        images = [_relabelled(image, labels) for image in images]
    images.sort(key=lambda image: image.place)
    train = [image for image in images if image.place.split == "train"]
    test = [image for image in images if image.place.split != "train"]
    return _assemble(path, train, test, listing, in_archive=isinstance(tree, Archive))


def _arranged(path: Path, tree: FolderTree | Archive, test_share: float) -> tuple[Listing, list[layout.Place]]:
    listing = tree.listing()
    images = [entry for entry in listing.entries if entry.is_image]
    places = layout.arrange(path, images, test_share)
    for name in {entry.name for entry in images} - {place.name for place in places}:
        listing.skip(Skipped.UNPLACED, name)
    return listing, places


def _read_images(path: Path, tree: FolderTree | Archive, places: list[layout.Place], size: int) -> list[_Image]:
    by_entry = {place.entry: place for place in places}
    images = []
    for entry, content in tree.read(by_entry):
        try:
            decoded = decode(entry.name, content, size)
        except TickdslError as error:
            raise TickdslError(f"{path}: {error.message}", error.hint) from error
        images.append(_Image(by_entry[entry], decoded, hashlib.sha256(content).digest()))
    return images


def _with_test_images(path: Path, images: list[_Image], share: float) -> list[_Image]:
    try:
        tested = layout.choose_test_images(
            [image.place.label for image in images], [image.digest for image in images], share
        )
    except TickdslError as error:
        raise TickdslError(f"{path}: {error.message}", error.hint) from error
    return [
        attrs.evolve(image, place=attrs.evolve(image.place, split="test" if is_tested else "train"))
        for image, is_tested in zip(images, tested, strict=True)
    ]


def _table_of_classes(tree: FolderTree | Archive, listing: Listing) -> dict[str, str]:
    """The classes of Tiny ImageNet's validation images by file name; empty without its table."""
    tables = [entry for entry in listing.entries if not entry.is_image and entry.size <= _MAX_TABLE_BYTES]
    labels: dict[str, str] = {}
    for _, content in tree.read(tables):
        rows = (line.split("\t") for line in content.decode("utf-8", "replace").splitlines())
        labels |= {row[0]: row[1] for row in rows if len(row) > 1}
    return labels


def _relabelled(image: _Image, labels: dict[str, str]) -> _Image:
    label = labels.get(PurePosixPath(image.place.name).name) if image.place.split == "val" else None
    return image if label is None else attrs.evolve(image, place=attrs.evolve(image.place, label=label))


def _assemble(path: Path, train: list[_Image], test: list[_Image], listing: Listing, *, in_archive: bool) -> RawDataset:
    images = [*train, *test]
    names = tuple(sorted({image.place.label for image in train}))
    untrained = sorted({image.place.label for image in test} - set(names))
    if untrained:
        raise TickdslError(
            f"{path}: class {printable_line(untrained[0])} has test images but no training images",
            "add images to its folder in train/, or remove the class",
        )
    if len(names) < 2:
        raise TickdslError(
            f"{path} has one class, {printable_line(names[0])}: there is nothing to tell apart", "add another class"
        )
    require_equal_sizes(path, [image.decoded for image in images])
    conversion = Conversion.of([image.decoded for image in train], [image.decoded for image in test])
    notes = (*(listing.notes() if in_archive else ()), *conversion.notes)
    rules = {
        "deep": conversion.deep,
        "links": in_archive and any(image.place.entry.linked for image in images),
        "system files": in_archive and listing.hides_images,
        "transparency": conversion.blended,
    }
    class_index = {name: index for index, name in enumerate(names)}
    inputs_and_labels = [
        (
            conversion.apply([image.decoded for image in part]),
            np.array([class_index[image.place.label] for image in part], dtype=np.int64),
        )
        for part in (train, test)
    ]
    return RawDataset(
        *inputs_and_labels[0],
        *inputs_and_labels[1],
        names,
        notes=notes,
        rules=tuple(rule for rule, applies in rules.items() if applies),
    )
