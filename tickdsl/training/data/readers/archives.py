"""The files of a folder, tar or zip archive as (name, bytes) pairs, without unpacking to disk."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tickdsl.errors import TickdslError

Member = tuple[PurePosixPath, bytes]


def files(path: Path) -> list[Path]:
    """The files that `members` reads, in order: the archive itself, or every file in the folder.

    Raises TickdslError if `path` does not exist.
    """
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    if path.is_file():
        return [path]
    raise TickdslError(f"{path} does not exist", "set path= to a folder or an archive")


def members(path: Path) -> Iterator[Member]:
    """Every regular file, named relative to the folder or archive. Raises TickdslError if the archive is damaged."""
    if path.is_dir():
        for file in files(path):
            yield PurePosixPath(file.relative_to(path).as_posix()), file.read_bytes()
        return
    try:
        if zipfile.is_zipfile(path):
            yield from _zip_members(path)
        elif tarfile.is_tarfile(path):
            yield from _tar_members(path)
        else:
            raise TickdslError(f"{path} is not a folder, a tar or a zip archive", "check path=")
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise TickdslError(f"the archive {path} is damaged: {error}", "download it again") from error


def _zip_members(path: Path) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                yield PurePosixPath(info.filename), archive.read(info)


def _tar_members(path: Path) -> Iterator[Member]:
    # A compressed tar allows no random access, so read it as a stream, in its own order.
    with tarfile.open(path, "r|*") as archive:
        for info in archive:
            content = archive.extractfile(info) if info.isfile() else None
            if content is not None:
                yield PurePosixPath(info.name), content.read()
