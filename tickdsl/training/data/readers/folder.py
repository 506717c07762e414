"""Image folders, decoded once and cached as arrays, or looked at once and decoded while they are used.

They hold `train/CLASS/*` and `test/CLASS/*` (or `val/`); or only classes, of which a share becomes the test set. Tiny
ImageNet is read as one: its validation images, whose classes are in a table, are the test set.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import attrs
import numpy as np
import psutil
from numpy.typing import NDArray

from tickdsl.errors import TickdslError
from tickdsl.printable import printable_line
from tickdsl.training.data import held_out
from tickdsl.training.data.file_digests import files_digest
from tickdsl.training.data.readers import decoded_cache, layout
from tickdsl.training.data.readers.archives import Archive, open_tree
from tickdsl.training.data.readers.encoded_images import EncodedImages, ScanImages, ScannedImages
from tickdsl.training.data.readers.file_entries import Entry, Listing, Skipped
from tickdsl.training.data.readers.folder_tree import FolderTree
from tickdsl.training.data.readers.hub_images import HubImages
from tickdsl.training.data.readers.image_arrays import Conversion, require_equal_sizes
from tickdsl.training.data.readers.image_decoding import ImageFacts, decode
from tickdsl.training.data.readers.parquet_files import ParquetFiles
from tickdsl.training.data.readers.raw_dataset import InputArray, LabelArray, RawDataset
from tickdsl.training.data.readers.web_shards import WebShards

#: What holds encoded images under names, with their splits and classes as folders.
Tree = FolderTree | Archive | WebShards | ParquetFiles | HubImages
#: Part of the name of a cached file; raise it when the arrays of the same files change.
_CACHE_VERSION = 2
_MAX_TABLE_BYTES = 1 << 26


@attrs.frozen
class ImageFolder:
    """A folder or an archive of images, decoded to RGB, or to greyscale if all images are.

    size: pixels per side that they are resized to (0: unchanged). test_share: the share of each class to test on (0:
    the folder has a test set). cache: the folder for decoded arrays; if it cannot be written, nothing is kept. load:
    `resident` to hold all images in memory, `stream` to decode them while they are used, `auto` to hold them unless
    they are too large. open: what reads the folder or the files; scan: what looks at images that are streamed (None:
    none are).
    """

    path: Path
    size: int
    test_share: float
    cache: Path
    load: str = "auto"
    open: Callable[[Path], Tree] = open_tree
    scan: ScanImages | None = None

    def digest(self) -> str:
        """The hex SHA-256 of the files' names and bytes."""
        tree = self.open(self.path)
        if isinstance(tree, Archive):
            return hashlib.sha256(files_digest([self.path]).encode()).hexdigest()
        return tree.digest(files_digest)

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
        tree = self.open(self.path)
        return _arranged(self.path, tree, self.test_share)[0].notes() if isinstance(tree, FolderTree) else ()

    def _read(self, key: str) -> RawDataset:
        if self._is_streamed():
            look = self.scan and partial(self.scan, cache=self.cache / key)
            streamed = _decode(self.path, self.open(self.path), self.size, self.test_share, self.cache / key, look)
            _rules_by_key[key] = streamed.rules
            return streamed
        file = self.cache / f"{key}.npz"
        raw = decoded_cache.load(file) if file.is_file() else None
        if raw is None:
            raw = _decode(self.path, self.open(self.path), self.size, self.test_share)
            if self._cache_key() == key:  # else it changed while it was read
                decoded_cache.save(raw, file)
        _rules_by_key[key] = raw.rules
        return raw

    def _is_streamed(self) -> bool:
        if self.scan is None:
            return False
        if self.load != "auto":
            return self.load == "stream"
        tree = self.open(self.path)
        images = [entry for entry in tree.listing().entries if entry.is_image]
        if not images:
            return False
        side = self.size * self.size or pixels_of_first(tree, images)
        return is_too_large(len(images) * side * 3)

    def _cache_key(self) -> str:
        text = f"{_CACHE_VERSION} {self.digest()} {self.size} {self.test_share}"
        return hashlib.sha256(text.encode()).hexdigest()[:24]


#: The rules of data sets that this process has read, by their key in the cache.
_rules_by_key: dict[str, tuple[str, ...]] = {}


@attrs.frozen(eq=False)
class _Image:
    """An image with its pixels [H, W, C], or with the file that holds it and its place there."""

    place: layout.Place
    facts: ImageFacts
    digest: bytes
    pixels: NDArray[np.generic] | None = None
    file: str = ""
    extent: tuple[int, int] = (-1, 0)


def pixels_of_first(tree: Tree, images: list[Entry]) -> int:
    """The number of pixels of the first image; 0 if it cannot be read, which is reported when all are."""
    for entry, content in tree.read(images[:1]):
        with contextlib.suppress(TickdslError):
            facts = decode(entry.name, content, 0).facts
            return facts.height * facts.width
    return 0


def is_too_large(size: int) -> bool:
    """Whether decoded images of so many bytes are too many to hold: more than a quarter of the memory that is free."""
    return bool(size > psutil.virtual_memory().available // 4)


def _decode(
    path: Path,
    tree: Tree,
    size: int,
    test_share: float,
    cache: Path | None = None,
    look: Callable[..., ScannedImages] | None = None,
) -> RawDataset:
    """Read the images; with `look` and the start of the names of files that keep what it finds, only look at them."""
    listing, places = _arranged(path, tree, test_share)
    labels = _table_of_classes(tree, listing)
    images = _read_images(path, tree, places, size) if look is None else _scan(path, tree, places, size, look)
    if test_share:
        images = _with_test_images(path, images, test_share)
    else:
        images = [_relabelled(image, labels) for image in images]
    images.sort(key=lambda image: image.place)
    train = [image for image in images if image.place.split == "train"]
    test = [image for image in images if image.place.split != "train"]
    in_archive = not isinstance(tree, FolderTree)
    if cache is None:
        return _assemble(path, train, test, listing, _stack, in_archive=in_archive)
    return _assemble(path, train, test, listing, partial(_encoded, path, size, cache), in_archive=in_archive)


def _scan(
    path: Path, tree: Tree, places: list[layout.Place], size: int, look: Callable[..., ScannedImages]
) -> list[_Image]:
    found = look(path, tree, [place.entry for place in places], size)
    return [
        _Image(
            place, found.facts[place.entry.name], found.digests[place.entry.name], None,
            found.paths[place.entry.name], found.places[place.entry.name],
        ) for place in places
    ]  # fmt: skip


def _arranged(path: Path, tree: Tree, test_share: float) -> tuple[Listing, list[layout.Place]]:
    listing = tree.listing()
    images = [entry for entry in listing.entries if entry.is_image]
    places = layout.arrange(path, images, test_share)
    for name in {entry.name for entry in images} - {place.name for place in places}:
        listing.skip(Skipped.UNPLACED, name)
    return listing, places


def _read_images(path: Path, tree: Tree, places: list[layout.Place], size: int) -> list[_Image]:
    by_entry = {place.entry: place for place in places}
    images = []
    for entry, content in tree.read(by_entry):
        try:
            decoded = decode(entry.name, content, size)
        except TickdslError as error:
            raise TickdslError(f"{path}: {error.message}", error.hint) from error
        images.append(_Image(by_entry[entry], decoded.facts, hashlib.sha256(content).digest(), decoded.pixels))
    return images


def _with_test_images(path: Path, images: list[_Image], share: float) -> list[_Image]:
    try:
        tested = held_out.choose([image.place.label for image in images], [image.digest for image in images], share)
    except TickdslError as error:
        raise TickdslError(f"{path}: {error.message}", error.hint) from error
    return [
        attrs.evolve(image, place=attrs.evolve(image.place, split="test" if is_tested else "train"))
        for image, is_tested in zip(images, tested, strict=True)
    ]


def _table_of_classes(tree: Tree, listing: Listing) -> dict[str, str]:
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


class _Stack(Protocol):
    def __call__(
        self, images: list[_Image], names: tuple[str, ...], conversion: Conversion
    ) -> tuple[InputArray, LabelArray]: ...


def _assemble(
    path: Path, train: list[_Image], test: list[_Image], listing: Listing, stack: _Stack, *, in_archive: bool
) -> RawDataset:
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
    require_equal_sizes(path, [image.facts for image in images])
    conversion = Conversion.of([image.facts for image in train], [image.facts for image in test])
    notes = (*(listing.notes() if in_archive else ()), *conversion.notes)
    rules = {
        "deep": conversion.deep,
        "links": in_archive and any(image.place.entry.linked for image in images),
        "system files": in_archive and listing.hides_images,
        "transparency": conversion.blended,
    }
    return RawDataset(
        *stack(train, names, conversion),
        *stack(test, names, conversion),
        names,
        notes=notes,
        rules=tuple(rule for rule, applies in rules.items() if applies),
    )


def _stack(images: list[_Image], names: tuple[str, ...], conversion: Conversion) -> tuple[InputArray, LabelArray]:
    pixels = [(image.pixels, image.facts) for image in images if image.pixels is not None]
    return conversion.apply(pixels), _labels(images, names)


def _encoded(
    path: Path, size: int, cache: Path, images: list[_Image], names: tuple[str, ...], conversion: Conversion
) -> tuple[InputArray, LabelArray]:
    """The images as `_stack` returns them, but encoded."""
    encoded: Any = encoded_images(
        str(path),
        [image.place.name for image in images],
        [image.file for image in images],
        [image.extent for image in images],
        [image.digest for image in images],
        size,
        images[0].facts,
        conversion,
        cache,
    )
    return encoded, _labels(images, names)


def encoded_images(
    source: str,
    names: list[str],
    paths: list[str],
    places: list[tuple[int, int]],
    digests: list[bytes],
    size: int,
    facts: ImageFacts,
    conversion: Conversion,
    cache: Path,
) -> EncodedImages:
    """Images that stay in their files; see `EncodedImages`. facts: of the first one, all have its size."""
    purpose = hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape"))
    return EncodedImages(
        source=source,
        names=names,
        paths=paths,
        places=np.array(places, dtype=np.int64).reshape(-1, 2),
        digests=[digest.hex() for digest in digests],
        rows=np.arange(len(names), dtype=np.int64),
        size=size,
        image_shape=(1 if conversion.grey else 3, facts.height, facts.width),
        scale=(conversion.scale.low, conversion.scale.high) if conversion.deep else None,
        cache=cache.with_name(f"{cache.name}-{purpose.hexdigest()[:8]}"),
    )


def _labels(images: list[_Image], names: tuple[str, ...]) -> LabelArray:
    class_index = {name: index for index, name in enumerate(names)}
    return np.array([class_index[image.place.label] for image in images], dtype=np.int64)
