"""Image data sets of the Hugging Face Hub, read by its library `datasets`: from a folder, its cache, or the Hub."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs

from tickdsl.errors import TickdslError
from tickdsl.printable import printable_line
from tickdsl.training.data.readers.file_entries import MAX_IMAGES, Entry, Listing

#: The splits that are tested on, in the order of preference; all other rows are those of `train`.
_TEST_SPLITS = ("test", "validation", "val")


@attrs.frozen
class HubImages:
    """A data set by its name on the Hub, or a folder that `save_to_disk` has written or `load_dataset` can read."""

    name: Path

    def listing(self) -> Listing:
        """The images, in order, each with its split and class as folders of its name.

        Raises TickdslError if the data set has no `train`, or no images or labels.
        """
        splits = self._splits()
        listing = Listing()
        for split, rows in splits.items():
            column, names = _labels(self.name, rows)
            values = rows[column][:]
            if len(listing.entries) + len(values) > MAX_IMAGES:
                raise TickdslError(f"more than {MAX_IMAGES:,} images", "use a part of them")
            width = len(str(max((value for value in values if isinstance(value, int)), default=0)))
            for row, value in enumerate(values):
                known = isinstance(value, int) and 0 <= value < len(names)
                label = names[value].replace("/", "_") if known else str(value).zfill(width)
                if value is None or not label or "/" in label or label.startswith(".") or value == -1:
                    raise TickdslError(f"{self.name}: row {row} of {split} has the label {value!r}", "leave it out")
                listing.entries.append(Entry(f"{split}/{label}/{row:09}.png", f"{split}:{row}", 0))
        return listing

    def digest(self, files_digest: Callable[[Iterable[Path]], str]) -> str:
        """The hex SHA-256 of all labels and encoded images: that of the content, wherever it was downloaded to."""
        digest = hashlib.sha256()
        for split, rows in self._splits().items():
            column, names = _labels(self.name, rows)
            digest.update(f"{split} {len(rows)} {names} {rows[column][:]}".encode())
            for content in _contents(self.name, split, rows, range(len(rows))):
                digest.update(hashlib.sha256(content).digest())
        return digest.hexdigest()

    def read(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, bytes]]:
        """The bytes of entries."""
        by_split: dict[str, list[tuple[int, Entry]]] = {}
        for entry in entries:
            split, _, row = str(entry.origin).rpartition(":")
            by_split.setdefault(split, []).append((int(row), entry))
        for split, wanted in by_split.items():
            wanted.sort(key=lambda pair: pair[0])
            contents = _contents(self.name, split, self._splits()[split], [row for row, _ in wanted])
            yield from ((entry, content) for (_, entry), content in zip(wanted, contents, strict=True))

    def _splits(self) -> dict[str, Any]:
        found = _load(self.name)
        if "train" not in found:
            raise TickdslError(f"{self.name} has no split `train`: it has {', '.join(found)}", "use another data set")
        test = next((name for name in _TEST_SPLITS if name in found), None)
        return {"train": found["train"], **({"test": found[test]} if test else {})}


@functools.lru_cache(maxsize=2)
def _load(name: Path) -> dict[str, Any]:
    """The splits of a data set by name, with images as their encoded bytes."""
    try:
        import datasets
    except ImportError as error:
        raise TickdslError(
            "`data hf` needs the package datasets, which is not installed", 'install it: pip install "tickdsl[hf]"'
        ) from error
    try:
        saved = (name / "dataset_dict.json").is_file() or (name / "dataset_info.json").is_file()
        found = datasets.load_from_disk(str(name)) if saved else datasets.load_dataset(name.as_posix())
    except Exception as error:  # the library raises errors of many packages: of networks, files and formats
        reason = printable_line((str(error).strip().splitlines() or [type(error).__name__])[0])
        raise TickdslError(
            f"{name} cannot be loaded by `datasets`: {reason}",
            "check the name and the network, or set path= to a folder that `save_to_disk` has written",
        ) from error
    splits = dict(found) if isinstance(found, dict) else {"train": found}
    image = _image_column(name, next(iter(splits.values())).features)
    return {split: rows.cast_column(image, datasets.Image(decode=False)) for split, rows in splits.items()}


def _image_column(name: Path, features: Any) -> str:
    for column, feature in features.items():
        if type(feature).__name__ == "Image":
            return str(column)
    raise TickdslError(f"{name} has no column of images: it has {', '.join(features)}", "use a data set of images")


def _labels(name: Path, rows: Any) -> tuple[str, list[str]]:
    """The column of labels, and the names of the classes if it has any."""
    for column, feature in rows.features.items():
        if type(feature).__name__ == "ClassLabel":
            return str(column), [str(each) for each in feature.names]
    for column in ("label", "labels"):
        if column in rows.features:
            return column, []
    raise TickdslError(f"{name} has no column of labels: it has {', '.join(rows.features)}", "use labelled images")


def _contents(name: Path, split: str, rows: Any, indices: Iterable[int]) -> Iterator[bytes]:
    column = _image_column(name, rows.features)
    for index in indices:
        value = rows[index][column]
        content = value["bytes"]
        if content is None and value["path"]:
            content = Path(value["path"]).read_bytes()
        if not isinstance(content, bytes):
            raise TickdslError(f"{name}: row {index} of {split} holds no image", "leave it out")
        yield content
