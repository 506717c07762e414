"""Which files of a folder or an archive are images to read, and which are skipped."""

from __future__ import annotations

import enum
from pathlib import Path, PurePosixPath

import attrs

from tickdsl.errors import TickdslError
from tickdsl.plurals import plural
from tickdsl.printable import printable_line

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
SPLITS = ("train", "test", "val")
#: Tiny ImageNet's table of the classes of its validation images.
VAL_TABLE = "val_annotations.txt"
#: The most bytes that an image file may have; a larger one is not read.
MAX_IMAGE_BYTES = 1 << 28
#: The most images of a folder or an archive, so that listing them takes bounded memory.
MAX_IMAGES = 2_000_000

#: Names that systems and tools create on their own; like hidden ones, which begin with a dot, they are no data.
_SYSTEM_NAMES = frozenset(
    {
        "__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found", "system volume information",
        "thumbs.db", "ehthumbs.db", "desktop.ini", "__pycache__",
    }
)  # fmt: skip
_MAX_EXAMPLES, _MAX_COUNTED = 3, 100_000


@attrs.frozen
class Entry:
    """An image, or Tiny ImageNet's table, in a folder or an archive.

    name: the path relative to the folder or archive, with `/`. origin: where its bytes are: the file's path, or the
    name of a member of the archive. extent: its offset in the file and its length, if it is a part of one. linked: it
    was reached through a link to a folder, or a link within the archive.
    """

    name: str
    origin: Path | str
    size: int
    linked: bool = False
    extent: tuple[int, int] = (-1, 0)

    @property
    def is_image(self) -> bool:
        return is_image(self.name)


def is_image(name: str) -> bool:
    """Whether a file's suffix is that of an image."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def is_data(name: str) -> bool:
    """Whether a file is read at all: an image, or Tiny ImageNet's table."""
    return is_image(name) or PurePosixPath(name).name == VAL_TABLE


def is_system_name(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or made by a system or a tool for its own use."""
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def split_and_class(name: str) -> tuple[str, str] | None:
    """(split, class) of an image's path: the folder named after a split, and the folder within it."""
    folders = name.split("/")[:-1]
    for index in range(len(folders) - 2, -1, -1):
        if folders[index] in SPLITS:
            return folders[index], folders[index + 1]
    return None


class Skipped(enum.Enum):
    """Why a file is skipped: the noun for such files, and where they are."""

    SYSTEM = ("hidden or system file", "")
    NOT_AN_IMAGE = ("non-image file", " in class folders")
    CIRCULAR = ("link", " to a folder above")
    BROKEN = ("broken link", "")
    UNPLACED = ("image", " outside the folders that are read")


@attrs.define
class Listing:
    """What a folder or an archive contains: the entries to read, and the files that are skipped.

    hides_images: a skipped hidden or system file has the path and the suffix of an image.
    """

    entries: list[Entry] = attrs.field(factory=list)
    hides_images: bool = False
    _skipped: dict[Skipped, dict[str, None]] = attrs.field(factory=dict)

    def add(self, name: str, origin: Path | str, size: int, *, linked: bool = False) -> None:
        """List a file, unless it is not an image. Raises TickdslError if there are too many images."""
        if is_data(name):
            if len(self.entries) >= MAX_IMAGES:
                raise TickdslError(f"more than {MAX_IMAGES:,} images", "use a part of them")
            self.entries.append(Entry(name, origin, size, linked))
        elif split_and_class(name) is not None:
            self.skip(Skipped.NOT_AN_IMAGE, name)

    def skip_if_system(self, name: str) -> bool:
        """Skip a file or folder if it, or a folder that it is in, is hidden or belongs to the system."""
        parts = name.split("/")
        index = next((index for index, part in enumerate(parts) if is_system_name(part)), None)
        if index is None:
            return False
        self.hides_images |= is_image(name) and split_and_class(name) is not None
        self.skip(Skipped.SYSTEM, "/".join(parts[: index + 1]))
        return True

    def skip(self, reason: Skipped, name: str) -> None:
        """Skip a file or folder; each is counted once, up to a limit."""
        names = self._skipped.setdefault(reason, {})
        if len(names) < _MAX_COUNTED:
            names[name] = None

    def notes(self) -> tuple[str, ...]:
        """A sentence on each kind of skipped files, with up to three of their names."""
        sentences = []
        for reason, names in self._skipped.items():
            noun, where = reason.value
            examples = ", ".join(f"`{printable_line(name)}`" for name in sorted(names)[:_MAX_EXAMPLES])
            more = ", …" if len(names) > _MAX_EXAMPLES else ""
            sentences.append(f"skipped {plural(len(names), noun)}{where}: {examples}{more}")
        return tuple(sorted(sentences))
