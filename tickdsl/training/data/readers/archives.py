"""A folder, tar or zip archive of images, whatever its format."""

from __future__ import annotations

import contextlib
import errno
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

from tickdsl.errors import TickdslError
from tickdsl.printable import printable_line
from tickdsl.training.data.readers import tar_archive, zip_archive
from tickdsl.training.data.readers.file_entries import MAX_IMAGE_BYTES, Entry, Listing
from tickdsl.training.data.readers.folder_tree import FolderTree
from tickdsl.training.data.readers.tar_archive import TarArchive
from tickdsl.training.data.readers.zip_archive import ZipArchive

_DAMAGED = (*tar_archive.ERRORS, *zip_archive.ERRORS)
_UNSUPPORTED = {b"\x28\xb5\x2f\xfd": "zstd", b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!\x1a\x07": "rar"}


@attrs.frozen
class Archive:
    """A tar or zip archive of images; damage is reported with the archive's path."""

    path: Path
    _archive: TarArchive | ZipArchive

    def listing(self) -> Listing:
        """The images in the archive. Raises TickdslError if it is damaged or encrypted."""
        with self._damage_reported():
            try:
                listing = self._archive.listing()
            except TickdslError as error:
                raise TickdslError(f"the archive {self.path} cannot be used: {error.message}", error.hint) from error
        for entry in listing.entries:
            if entry.size > MAX_IMAGE_BYTES:
                problem = f"has {entry.size:,} bytes, more than {MAX_IMAGE_BYTES >> 20} MiB"
                raise TickdslError(
                    f"{self.path}: `{printable_line(entry.name)}` {problem}", "remove it if it is no image"
                )
        return listing

    def read(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, bytes]]:
        """The bytes of entries, in any order. Raises TickdslError if the archive is damaged."""
        contents = self._archive.read(entries)
        while True:
            with self._damage_reported():
                item = next(contents, None)
            if item is None:
                return
            yield item

    @contextlib.contextmanager
    def _damage_reported(self) -> Iterator[None]:
        try:
            yield
        except (*_DAMAGED, OSError) as error:
            # bz2 reports damage by an OSError without a number; a wrong offset in a zip makes seeking invalid.
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
                raise
            raise TickdslError(f"the archive {self.path} is damaged: {error}", "download it again") from error


def open_tree(path: Path) -> FolderTree | Archive:
    """The images of a folder or an archive. Raises TickdslError if it is neither."""
    if path.is_dir():
        return FolderTree(path)
    if not path.is_file():
        what = "is not a folder or an archive" if path.exists() else "does not exist"
        raise TickdslError(f"{path} {what}", "set path= to a folder or an archive")
    with path.open("rb") as file:
        start = file.read(1024)
    if ZipArchive.matches(start):
        return Archive(path, ZipArchive(path))
    if TarArchive.matches(start):
        return Archive(path, TarArchive(path))
    if zipfile.is_zipfile(path):  # a program that unpacks itself
        return Archive(path, ZipArchive(path))
    known = next((name for magic, name in _UNSUPPORTED.items() if start.startswith(magic)), None)
    what = f"is a {known} archive, which is not supported" if known else "is not a folder, a tar or a zip archive"
    raise TickdslError(
        f"{path} {what if start else 'is empty'}",
        "unpack it, and set path= to the folder" if known else "check path=, or download it again",
    )
