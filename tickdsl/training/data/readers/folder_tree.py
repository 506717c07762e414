"""The images of a folder, with links to files and folders followed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import attrs

from tickdsl.errors import TickdslError
from tickdsl.printable import printable_line
from tickdsl.training.data.readers.file_entries import (
    MAX_IMAGE_BYTES,
    Entry,
    Listing,
    Skipped,
    is_data,
    is_image,
    split_and_class,
)

#: The most links to folders that are followed, so that folders that link to each other end.
_MAX_LINKED_FOLDERS = 10_000


@attrs.define
class FolderTree:
    """A folder of images. Hidden and system files are skipped, and so is a link to a folder that it is in."""

    root: Path

    def listing(self) -> Listing:
        """What the folder contains. Raises TickdslError if an image or a class is a link to nothing."""
        listing = Listing()
        for name, path, linked in self._walk(listing):
            listing.add(name, path, 0, linked=linked)
        return listing

    def digest(self, files_digest: Callable[[Iterable[Path]], str]) -> str:
        """The hex SHA-256 of the names and contents of all files.

        Files reached through a link to a folder count only if they are data, so that following links did not change
        the digest of folders where links lead elsewhere.
        """
        files = [(name, path) for name, path, linked in self._walk(Listing()) if not linked or is_data(name)]
        files.sort(key=lambda file: file[0].split("/"))
        names = [name for name, _ in files]
        return hashlib.sha256(
            "\n".join([*names, files_digest(path for _, path in files)]).encode("utf-8", "surrogateescape")
        ).hexdigest()

    def read(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, bytes]]:
        """The bytes of entries. Raises TickdslError if a file is too large for an image."""
        for entry in entries:
            path = Path(entry.origin)
            with path.open("rb") as file:
                content = file.read(MAX_IMAGE_BYTES + 1)
            if len(content) > MAX_IMAGE_BYTES:
                raise TickdslError(
                    f"{printable_line(str(path))} has more than {MAX_IMAGE_BYTES >> 20} MiB",
                    "delete it if it is no image",
                )
            yield entry, content

    def _walk(self, listing: Listing) -> Iterator[tuple[str, Path, bool]]:
        """(name, path, linked) of every regular file that is not skipped."""
        linked_folders = 0
        waiting = [("", self.root, False, frozenset({_identity(self.root)}))]
        while waiting:
            prefix, folder, linked, above = waiting.pop()
            with os.scandir(folder) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
            for entry in entries:  # whose kind is known without a look at each file
                name, path, is_link = prefix + entry.name, Path(entry.path), entry.is_symlink()
                if listing.skip_if_system(name):
                    continue
                if is_link and not path.exists():
                    _skip_broken(listing, name, path)
                elif entry.is_file():
                    yield name, path, linked
                elif entry.is_dir():
                    identity = _identity(path)
                    if identity in above:
                        listing.skip(Skipped.CIRCULAR, name)
                        continue
                    linked_folders += is_link
                    if linked_folders > _MAX_LINKED_FOLDERS:
                        raise TickdslError(
                            f"{self.root} has more than {_MAX_LINKED_FOLDERS:,} links to folders",
                            "remove links between folders that link to each other",
                        )
                    waiting.append((f"{name}/", path, linked or is_link, above | {identity}))


def _skip_broken(listing: Listing, name: str, link: Path) -> None:
    """Skip a link to nothing. Raises TickdslError if it is an image or a class."""
    if is_image(name) or split_and_class(f"{name}/image"):
        raise TickdslError(
            f"{printable_line(str(link))} is a link to {printable_line(str(link.readlink()))}, which does not exist",
            "restore the file, or delete the link",
        )
    listing.skip(Skipped.BROKEN, name)


def _identity(folder: Path) -> tuple[int, int]:
    """What tells folders apart, by whatever link they are reached."""
    status = folder.stat()
    return status.st_dev, status.st_ino
