"""Image folders, `train/CLASS/*` and `test/CLASS/*` (or `val/`), decoded once and cached as arrays.

Tiny ImageNet is read as one: its validation images, whose classes are in a table, are the test set.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import attrs
import numpy as np
from PIL import Image, UnidentifiedImageError

from tickdsl.errors import TickdslError
from tickdsl.training.data.readers.archives import Member, members
from tickdsl.training.data.readers.raw_dataset import ImageArray, LabelArray, RawDataset

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
_SPLITS = ("train", "test", "val")
_LAYOUT = "it must contain train/CLASS/*.jpg and test/CLASS/*.jpg"
_VAL_TABLE = "val_annotations.txt"


@attrs.frozen(order=True)
class _DecodedImage:
    split: str
    label: str
    name: str
    pixels: bytes = attrs.field(order=False, repr=False)
    height: int = attrs.field(order=False)
    width: int = attrs.field(order=False)
    grey: bool = attrs.field(order=False)


def read(path: Path, size: int, cache: Path) -> RawDataset:
    """Decode all images to RGB, or to greyscale if all are, resized to `size` pixels per side (0: unchanged).

    Classes are the folder names, sorted; images are sorted by name. The arrays are cached in the file `cache` if it is
    writable. Raises TickdslError if the folder's layout is wrong or an image cannot be read.
    """
    if cache.is_file():
        cached = _load_cache(cache)
        if cached is not None:
            return cached
    raw = _assemble(path, _decode_all(members(path), size))
    _save_cache(raw, cache)
    return raw


def _decode_all(files: Iterable[Member], size: int) -> list[_DecodedImage]:
    decoded, classes = [], {}
    for name, content in files:
        if name.name == _VAL_TABLE:
            rows = (line.split("\t") for line in content.decode().splitlines())
            classes = {row[0]: row[1] for row in rows if len(row) > 1}
        split_and_class = _split_and_class(name)
        if split_and_class is not None and name.suffix.lower() in _SUFFIXES:
            decoded.append(_decode(name, split_and_class, content, size))
    if classes:
        decoded = [
            attrs.evolve(image, label=classes[PurePosixPath(image.name).name])
            if image.split == "val" and PurePosixPath(image.name).name in classes
            else image
            for image in decoded
        ]
    return sorted(decoded)


def _split_and_class(name: PurePosixPath) -> tuple[str, str] | None:
    """(split, class) of an image's path: the folder named after a split, and the folder within it."""
    folders = name.parts[:-1]
    for index in range(len(folders) - 2, -1, -1):
        if folders[index] in _SPLITS:
            return folders[index], folders[index + 1]
    return None


def _decode(name: PurePosixPath, split_and_class: tuple[str, str], content: bytes, size: int) -> _DecodedImage:
    try:
        with Image.open(io.BytesIO(content)) as image:
            grey = image.mode in ("1", "L", "LA")
            converted = image.convert("L" if grey else "RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise TickdslError(f"cannot read the image {name}: {error}", "repair or delete it") from error
    if size and converted.size != (size, size):
        converted = converted.resize((size, size), Image.Resampling.BILINEAR)
    return _DecodedImage(*split_and_class, str(name), converted.tobytes(), converted.height, converted.width, grey)


def _assemble(path: Path, decoded: list[_DecodedImage]) -> RawDataset:
    splits = {split: [image for image in decoded if image.split == split] for split in _SPLITS}
    train, test = splits["train"], splits["test"] or splits["val"]
    for purpose, part in (("train", train), ("test", test)):
        if not part:
            raise TickdslError(f"{path} has no images to {purpose} on", _LAYOUT)
    names = tuple(sorted({image.label for image in train}))
    untrained = sorted({image.label for image in test} - set(names))
    if untrained:
        raise TickdslError(f"{path}: class {untrained[0]} has test images but no training images", _LAYOUT)
    shapes = {(image.height, image.width) for image in (*train, *test)}
    if len(shapes) > 1:
        first, second = sorted(shapes)[:2]
        raise TickdslError(
            f"{path}: images differ in size ({first[0]}x{first[1]}, {second[0]}x{second[1]}, …)",
            "add size=64, or another number of pixels, to `data`",
        )
    grey = all(image.grey for image in (*train, *test))
    return RawDataset(*_stack(train, names, grey), *_stack(test, names, grey), names)


def _stack(decoded: list[_DecodedImage], names: tuple[str, ...], grey: bool) -> tuple[ImageArray, LabelArray]:
    class_index = {name: index for index, name in enumerate(names)}
    height, width = decoded[0].height, decoded[0].width
    images = np.empty((len(decoded), 1 if grey else 3, height, width), dtype=np.uint8)
    for index, image in enumerate(decoded):
        pixels = np.frombuffer(image.pixels, dtype=np.uint8)
        images[index] = pixels.reshape(height, width, 1 if image.grey else 3).transpose(2, 0, 1)
    return images, np.array([class_index[image.label] for image in decoded], dtype=np.int64)


def _load_cache(cache: Path) -> RawDataset | None:
    """The cached arrays; None if the file is damaged, to be written again."""
    try:
        with np.load(cache, allow_pickle=False) as arrays:
            return RawDataset(
                arrays["train_images"], arrays["train_labels"], arrays["test_images"], arrays["test_labels"],
                tuple(str(name) for name in arrays["class_names"]),
            )  # fmt: skip
    except (OSError, ValueError, KeyError, EOFError):
        return None


def _save_cache(raw: RawDataset, cache: Path) -> None:
    """Write the arrays atomically. If the folder is not writable, images are decoded again the next time."""
    temporary = cache.with_name(f".{os.getpid()}.{cache.name}")
    arrays = attrs.asdict(raw) | {"class_names": np.array(raw.class_names)}
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.savez(file, **arrays)
        temporary.replace(cache)
    except OSError:
        temporary.unlink(missing_ok=True)
