"""Folders of images and of masks with the same names, for segmentation.

They hold `train/images/*`, `train/masks/*`, `test/images/*` and `test/masks/*` (or `val/`); or only `images/*` and
`masks/*`, of which a share becomes the test set. A mask is an image without losses whose palette indices or grey values
are classes, 255 where there is no label.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from pathlib import Path, PurePosixPath
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tickdsl.errors import TickdslError
from tickdsl.printable import printable_line
from tickdsl.training.catalogue.tasks import UNLABELLED
from tickdsl.training.data import held_out
from tickdsl.training.data.file_digests import files_digest
from tickdsl.training.data.readers import decoded_cache
from tickdsl.training.data.readers.archives import Archive, open_tree
from tickdsl.training.data.readers.encoded_images import EncodedImages, ScanImages, ScannedImages
from tickdsl.training.data.readers.file_entries import SPLITS, Entry, Listing, Skipped
from tickdsl.training.data.readers.folder import encoded_images, is_too_large, pixels_of_first
from tickdsl.training.data.readers.folder_tree import FolderTree
from tickdsl.training.data.readers.image_arrays import Conversion, require_equal_sizes
from tickdsl.training.data.readers.image_decoding import ImageFacts, decode
from tickdsl.training.data.readers.raw_dataset import RawDataset

#: Part of the name of a cached file; raise it when the arrays of the same files change.
_CACHE_VERSION = 1
_LAYOUT = "it must contain train/images, train/masks, test/images and test/masks, with equal names"
_FOLDERS = ("images", "masks")
#: Formats that change values a little.
_LOSSY = (".jpg", ".jpeg", ".webp")
#: Pillow's modes of images whose values are numbers of classes.
_INDEX_MODES = frozenset({"1", "L", "P", "I", "I;16", "I;16L", "I;16B", "I;16N"})

_Mask = NDArray[np.uint8]


@attrs.frozen
class MaskFolder:
    """A folder or an archive of images and masks.

    size: pixels per side that both are resized to (0: unchanged), masks to the nearest pixel. test_share: the share to
    test on (0: the folder has a test set). classes: their number (0: up to the highest value). cache: the folder for
    decoded arrays; if it cannot be written, nothing is kept. load: `stream` leaves the images encoded, and holds the
    masks, a byte per pixel; `auto` does so if all would be too large. scan: what looks at images that are streamed
    (None: they cannot be).
    """

    path: Path
    size: int
    test_share: float
    classes: int
    cache: Path
    load: str = "resident"
    scan: ScanImages | None = None

    def digest(self) -> str:
        """The hex SHA-256 of the files' names and bytes."""
        tree = open_tree(self.path)
        if isinstance(tree, FolderTree):
            return tree.digest(files_digest)
        return hashlib.sha256(files_digest([self.path]).encode()).hexdigest()

    def read(self) -> RawDataset:
        """The data set, with images sorted by name.

        Raises TickdslError if the layout is wrong, a file cannot be read, or a mask does not fit; it names the file.
        """
        key = self._cache_key()
        if self._is_streamed():
            return attrs.evolve(self._decode(self.cache / key), task="segment")
        file = self.cache / f"{key}.npz"
        raw = decoded_cache.load(file) if file.is_file() else None
        if raw is None:
            raw = self._decode()
            if self._cache_key() == key:  # else it changed while it was read
                decoded_cache.save(raw, file)
        return attrs.evolve(raw, task="segment")

    def skipped(self) -> tuple[str, ...]:
        """Notes on what is skipped in a folder: not in those of `read`, as these files are not part of the digest."""
        tree = open_tree(self.path)
        return self._pairs(tree)[0].notes() if isinstance(tree, FolderTree) else ()

    def _cache_key(self) -> str:
        text = f"masks {_CACHE_VERSION} {self.digest()} {self.size} {self.test_share} {self.classes}"
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def _is_streamed(self) -> bool:
        if self.scan is None or self.load == "resident":
            return False
        if self.load == "stream":
            return True
        tree = open_tree(self.path)
        images = list(self._pairs(tree)[1])
        side = self.size * self.size or (pixels_of_first(tree, images) if images else 0)
        return is_too_large(len(images) * side * (3 + 1))

    def _decode(self, cache: Path | None = None) -> RawDataset:
        """The data set; with the start of the names of files that keep what is found, images stay encoded."""
        tree = open_tree(self.path)
        listing, pairs = self._pairs(tree)
        masks = {entry.name: content for entry, content in tree.read(list(pairs.values()))}
        found = None
        if cache is not None and self.scan is not None:
            found = self.scan(self.path, tree, list(pairs), self.size, cache)
        by_name = {}
        for image, content in tree.read(list(pairs)):
            mask = pairs[image]
            try:
                by_name[image.name] = self._sample(image, content, mask, masks.pop(mask.name), found)
            except TickdslError as error:
                raise self._error(error.message, error.hint) from error
        samples = [by_name[image.name] for image in pairs]
        if self.test_share:
            tested = held_out.choose(
                ["every image"] * len(samples), [sample.digest for sample in samples], self.test_share
            )
            samples = [
                attrs.evolve(sample, split="test" if is_tested else "train")
                for sample, is_tested in zip(samples, tested, strict=True)
            ]
        require_equal_sizes(self.path, [sample.facts for sample in samples])
        parts = [[s for s in samples if (s.split == "train") is is_train] for is_train in (True, False)]
        conversion = Conversion.of(*([sample.facts for sample in part] for part in parts))

        def images(part: list[_Sample]) -> Any:
            if found is not None and cache is not None:
                return self._encoded(part, conversion, found, cache)
            return conversion.apply([(sample.pixels, sample.facts) for sample in part if sample.pixels is not None])

        arrays = [(images(part), np.stack([sample.mask for sample in part])) for part in parts]
        return RawDataset(
            *arrays[0],
            *arrays[1],
            self._class_names([mask for _, mask in arrays]),
            notes=(*(listing.notes() if isinstance(tree, Archive) else ()), *conversion.notes),
        )

    def _class_names(self, masks: list[_Mask]) -> tuple[str, ...]:
        highest = max((int(mask[mask != UNLABELLED].max(initial=0)) for mask in masks), default=0)
        return tuple(f"class {number}" for number in range(self.classes or max(2, highest + 1)))

    def _pairs(self, tree: FolderTree | Archive) -> tuple[Listing, dict[Entry, Entry]]:
        """Every image with its mask, in order."""
        listing = tree.listing()
        found: dict[tuple[str, str], dict[str, Entry]] = {}  # by (split, images or masks), by name without a suffix
        for entry in sorted((entry for entry in listing.entries if entry.is_image), key=lambda entry: entry.name):
            position = _position(entry.name)
            if position is None:
                listing.skip(Skipped.UNPLACED, entry.name)
                continue
            split, kind, name = position
            other = found.setdefault((split, kind), {}).setdefault(name, entry)
            if other is not entry:
                raise self._error(f"{_shown(other)} and {_shown(entry)} have the same name", "remove one of them")
        pairs = {}
        for split in self._splits(found):
            images, masks = (found.get((split, kind), {}) for kind in _FOLDERS)
            for name, image in images.items():
                if name not in masks:
                    raise self._error(f"{_shown(image)} has no mask", f"add {_mask_path(image.name)}, or remove it")
                pairs[image] = masks[name]
            alone = next((masks[name] for name in masks if name not in images), None)
            if alone is not None:
                raise self._error(f"the mask {_shown(alone)} has no image", "add the image, or remove the mask")
        return listing, pairs

    def _splits(self, found: dict[tuple[str, str], dict[str, Entry]]) -> tuple[str, ...]:
        """The splits to read. Raises TickdslError if there is nothing to train or to test on."""
        have = [split for split in ("", *SPLITS) if any(split == key for key, _ in found)]
        has_test = [split for split in ("test", "val") if split in have][:1]
        if self.test_share and has_test:
            raise self._error(
                f"there are test images in {has_test[0]}/ already", f"leave out test=, or remove {has_test[0]}/"
            )
        if self.test_share:
            whole = "train" if "train" in have else ""
            if whole not in have:
                raise self._error("there are no images in images/", "it must contain images/ and masks/")
            return (whole,)
        if "train" not in have and "" in have:
            raise self._error(
                "there is images/, but no train/images", f"add test=20% to `data` to test on a fifth; or {_LAYOUT}"
            )
        for purpose, there in (("train", "train" in have), ("test", has_test)):
            if not there:
                raise self._error(f"there are no images in {purpose}/images", _LAYOUT)
        return ("train", *has_test)

    def _encoded(
        self, samples: list[_Sample], conversion: Conversion, found: ScannedImages, cache: Path
    ) -> EncodedImages:
        names = [sample.name for sample in samples]
        return encoded_images(
            str(self.path),
            names,
            [found.paths[name] for name in names],
            [found.places[name] for name in names],
            [found.digests[name] for name in names],
            self.size,
            samples[0].facts,
            conversion,
            cache,
        )

    def _sample(
        self, image: Entry, image_content: bytes, mask: Entry, mask_content: bytes, found: ScannedImages | None
    ) -> _Sample:
        """An image with its mask; if the images were looked at before, without its pixels."""
        decoded = decode(image.name, image_content, self.size) if found is None else None
        facts = decoded.facts if decoded is not None else found.facts[image.name] if found is not None else None
        assert facts is not None
        classes = _decode_mask(mask, mask_content)
        with Image.open(io.BytesIO(image_content)) as opened:
            columns, rows = opened.size
        if classes.shape != (rows, columns):
            raise TickdslError(
                f"the mask {_shown(mask)} has {classes.shape[0]}x{classes.shape[1]} pixels, its image {rows}x{columns}",
                "make them equal",
            )
        self._require_classes(mask, classes)
        if self.size:
            resized = Image.fromarray(classes).resize((self.size, self.size), Image.Resampling.NEAREST)
            classes = np.asarray(resized)
        split = (_position(image.name) or ("", "", ""))[0]
        digest = hashlib.sha256(image_content + mask_content).digest()
        pixels = None if decoded is None else decoded.pixels
        return _Sample(image.name, split, facts, pixels, classes.astype(np.uint8), digest)

    def _require_classes(self, mask: Entry, values: NDArray[np.generic]) -> None:
        highest = (self.classes or UNLABELLED) - 1
        wrong = np.argwhere(((values > highest) | (values < 0)) & (values != UNLABELLED))  # type: ignore[operator]
        if len(wrong):
            row, column = wrong[0].tolist()
            hint = f"use 0 to {highest} for classes, and {UNLABELLED} for pixels without a label"
            raise TickdslError(
                f"the mask {_shown(mask)} has {values[row, column]} at row {row}, column {column}",
                f"{hint}; or set classes= to their number" if self.classes else hint,
            )

    def _error(self, message: str, hint: str | None) -> TickdslError:
        return TickdslError(f"{self.path}: {message}", hint)


@attrs.frozen(eq=False)
class _Sample:
    name: str
    split: str
    facts: ImageFacts
    pixels: NDArray[Any] | None
    mask: _Mask
    digest: bytes


def _decode_mask(entry: Entry, content: bytes) -> NDArray[np.generic]:
    """The values of a mask, integers [H, W]. Raises TickdslError if it is none."""
    if PurePosixPath(entry.name).suffix.lower() in _LOSSY:
        raise TickdslError(
            f"the mask {_shown(entry)} is in a format that changes values", "save masks as PNG, which does not"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large and of slightly damaged images
            with Image.open(io.BytesIO(content)) as image:
                mode, values = image.mode, np.asarray(image)
    except Exception as error:  # Pillow's decoders raise anything for damaged files
        raise TickdslError(f"cannot read the mask {_shown(entry)}: {error}", "repair or delete it") from error
    if mode not in _INDEX_MODES:
        raise TickdslError(
            f"the mask {_shown(entry)} has colours ({mode})",
            "save it with a palette or in grey, with classes as the values",
        )
    return values.astype(np.uint8) if mode == "1" else values


def _position(name: str) -> tuple[str, str, str] | None:
    """(split or "", `images` or `masks`, the name within it without a suffix) of a file's path."""
    path = PurePosixPath(name)
    folders = path.parts[:-1]
    places = [index for index, folder in enumerate(folders) if folder in _FOLDERS]
    in_split = [index for index in places if index and folders[index - 1] in SPLITS]
    if not places:
        return None
    index = (in_split or places)[0]
    split = folders[index - 1] if in_split else ""
    return split, folders[index], str(path.with_suffix("").relative_to(*folders[: index + 1]))


def _mask_path(image: str) -> str:
    """Where the mask of an image is expected."""
    split, _, name = _position(image) or ("", "", "")
    return printable_line(str(PurePosixPath(split, "masks", f"{name}.png")))


def _shown(entry: Entry) -> str:
    return printable_line(entry.name)
