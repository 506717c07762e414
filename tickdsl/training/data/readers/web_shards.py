"""WebDataset shards: uncompressed tar archives whose samples are files of one name: `000123.jpg` and `000123.cls`.

They are listed by their headers alone, and each image is read where it is in its shard. Shards whose names contain
`test` or `val` are the test set, others are for training.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import attrs

from tickdsl.errors import TickdslError
from tickdsl.printable import printable_line
from tickdsl.training.data.readers.file_entries import MAX_IMAGES, Entry, Listing, is_image

#: Suffixes of the file with a sample's class, in the order in which they are looked for; JSON has it under a key.
_LABEL_SUFFIXES = ("cls", "cls.txt", "txt", "json")
_LABEL_KEYS = ("label", "cls", "class")
_MAX_LABEL_BYTES = 1 << 20
_BLOCK = 512
_NUMBERED = re.compile(r"(.*?)(\d+)(-of-(\d+))?(\.tar)$")


@attrs.frozen
class WebShards:
    """A folder of shards, or one shard."""

    root: Path

    def listing(self) -> Listing:
        """The images of all shards, in order, each with its split and class as folders of its name.

        Raises TickdslError if a shard is missing or cut short, or a sample has no class.
        """
        samples = [sample for shard in self._shards() for sample in _samples(shard)]
        width = max((len(label) for _, _, label, _ in samples if label.isdecimal()), default=0)
        listing, seen = Listing(), set()
        if len(samples) > MAX_IMAGES:
            raise TickdslError(f"more than {MAX_IMAGES:,} images", "use a part of them")
        for shard, key, label, extent in samples:
            # Numbers of equal width are in the same order as text.
            label = label.zfill(width) if label.isdecimal() else label
            name = f"{_split(shard)}/{label}/{shard.name}:{key.replace('/', '_')}"
            if name in seen:
                raise TickdslError(f"{shard.name} has the sample {printable_line(key)} twice", "write the shards again")
            seen.add(name)
            listing.entries.append(Entry(name, shard, extent[1], extent=extent))
        return listing

    def digest(self, files_digest: Callable[[Iterable[Path]], str]) -> str:
        """The hex SHA-256 of the shards' names and bytes."""
        shards = self._shards()
        text = "\n".join([*(shard.name for shard in shards), files_digest(shards)])
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    def read(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, bytes]]:
        """The bytes of entries."""
        for entry in entries:
            with Path(entry.origin).open("rb") as file:
                file.seek(entry.extent[0])
                yield entry, file.read(entry.extent[1])

    def _shards(self) -> list[Path]:
        if self.root.is_file():
            return [self.root]
        shards = sorted(self.root.glob("*.tar")) if self.root.is_dir() else []
        if not shards:
            compressed = next(self.root.glob("*.tar.*"), None) if self.root.is_dir() else None
            hint = (
                "unpack them: `gunzip *.tar.gz`"
                if compressed
                else "set path= to a folder of shards: train-000000.tar, …"
            )
            found = f"only compressed shards, such as {compressed.name}" if compressed else "no shards"
            raise TickdslError(f"{self.root} holds {found}", hint)
        _require_complete(self.root, shards)
        return shards


def _require_complete(root: Path, shards: list[Path]) -> None:
    """Raise TickdslError if the numbers of shards of one name leave some out."""
    numbers: dict[tuple[str, str], set[int]] = {}
    for shard in shards:
        match = _NUMBERED.match(shard.name)
        if match:
            numbers.setdefault((match[1], match[4] or ""), set()).add(int(match[2]))
    for (name, total), found in numbers.items():
        expected = range(int(total)) if total else range(min(found), max(found) + 1)
        missing = sorted({*expected} - found)
        if missing:
            shown = ", ".join(map(str, missing[:5])) + (", …" if len(missing) > 5 else "")
            raise TickdslError(
                f"{root}: shards {name}* lack the numbers {shown}", "download them, or name the others anew"
            )


def _split(shard: Path) -> str:
    words = re.split(r"[^a-z]+", shard.name.lower())
    return "test" if {"test", "val", "valid", "validation"}.intersection(words) else "train"


def _samples(shard: Path) -> Iterator[tuple[Path, str, str, tuple[int, int]]]:
    """(shard, file name, class, (offset, length)) of every image of a shard."""
    images: dict[str, tuple[str, tuple[int, int]]] = {}
    labels: dict[str, dict[str, str]] = {}
    end = 0
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
                if not member.isfile():
                    continue
                folder, _, file = member.name.rpartition("/")
                stem, _, suffix = file.partition(".")
                key = f"{folder}/{stem}" if folder else stem
                if is_image(member.name):
                    images[key] = member.name, (member.offset_data, member.size)
                elif suffix.lower() in _LABEL_SUFFIXES:
                    content = archive.extractfile(member)
                    assert content is not None
                    text = content.read(_MAX_LABEL_BYTES).decode("utf-8", "replace")
                    labels.setdefault(key, {})[suffix.lower()] = text
    except tarfile.TarError as error:
        raise _damaged(shard, str(error)) from error
    with shard.open("rb") as file_object:
        file_object.seek(end)
        if file_object.read(_BLOCK) != bytes(_BLOCK):
            raise _damaged(shard, "it was cut short")
    for key, (name, extent) in images.items():
        yield shard, name, _label(shard, name, labels.get(key, {})), extent


def _damaged(shard: Path, reason: str) -> TickdslError:
    return TickdslError(f"the shard {shard} is damaged: {reason}", "download it again")


def _label(shard: Path, name: str, files: dict[str, str]) -> str:
    for suffix in _LABEL_SUFFIXES:
        if suffix not in files:
            continue
        text = files[suffix].strip()
        if suffix == "json":
            text = _label_in_json(text)
        if text and "/" not in text and len(text.splitlines()) == 1 and not text.startswith("."):
            return text
    raise TickdslError(
        f"{shard}: the sample {printable_line(name)} has no class",
        "store it beside the image: as text in .cls, or in .json under `label`",
    )


def _label_in_json(text: str) -> str:
    try:
        found = json.loads(text)
    except ValueError:
        return ""
    if not isinstance(found, dict):
        return str(found) if isinstance(found, int | str) else ""
    return next((str(found[key]) for key in _LABEL_KEYS if isinstance(found.get(key), int | str)), "")
