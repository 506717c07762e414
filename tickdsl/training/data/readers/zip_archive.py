"""Images in a zip archive."""

from __future__ import annotations

import lzma
import posixpath
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

from tickdsl.errors import TickdslError
from tickdsl.printable import printable_line
from tickdsl.training.data.readers.archive_index import ArchiveIndex
from tickdsl.training.data.readers.file_entries import Entry, Listing, is_data

#: What reading a damaged archive raises.
ERRORS = (
    zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, struct.error, ValueError, OverflowError, RuntimeError,
)  # fmt: skip

_ENCRYPTED = 0x1
#: The record at the archive's end, how far from it the record can begin, and its number of members.
_END_RECORD, _END_RECORD_REACH, _END_COUNT = b"PK\x05\x06", 22 + 0xFFFF, struct.Struct("<H")
_MAX_PATH = 4096
_METHODS = {8: "deflate", 9: "deflate64", 93: "zstd", 95: "xz", 96: "jpeg", 98: "ppmd", 99: "AES encryption"}


@attrs.frozen
class ZipArchive:
    """A zip archive of images."""

    path: Path

    @staticmethod
    def matches(start: bytes) -> bool:
        """Whether a file that starts with these bytes is a zip archive, maybe cut short."""
        return start.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"))

    def listing(self) -> Listing:
        """The images in the archive. Raises TickdslError if one is encrypted or compressed by an unknown method."""
        index = ArchiveIndex()
        with self._open() as archive:
            members = archive.infolist()
            self._require_count(len(members))
            for name, info in _by_name(members):
                is_link = stat.S_ISLNK(info.external_attr >> 16)
                if is_link or is_data(name):
                    _require_readable(info, name)
                if is_link:
                    target = self._content(archive, info, _MAX_PATH).decode("utf-8", "surrogateescape")
                    index.add_link(name, posixpath.join(posixpath.dirname(name), target))
                else:
                    index.add_file(name, info.file_size)
        return index.listing()

    def read(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, bytes]]:
        """The bytes of entries. Raises BadZipFile if they do not have the checksum in the archive."""
        with self._open() as archive:
            by_name = dict(_by_name(archive.infolist()))
            for entry in entries:
                yield entry, self._content(archive, by_name[str(entry.origin)], entry.size)

    def _open(self) -> zipfile.ZipFile:
        if not zipfile.is_zipfile(self.path):
            raise zipfile.BadZipFile("it is cut short: the list of members at its end is missing")
        return zipfile.ZipFile(self.path)

    def _require_count(self, count: int) -> None:
        """Raise BadZipFile if the end of the archive counts other members than are listed."""
        with self.path.open("rb") as file:
            file.seek(-min(self.path.stat().st_size, _END_RECORD_REACH), 2)
            tail = file.read()
        (counted,) = _END_COUNT.unpack_from(tail, tail.rfind(_END_RECORD) + 10)
        if counted not in (0xFFFF, count & 0xFFFF):
            raise zipfile.BadZipFile(f"it lists {count:,} members and should have {counted:,}")

    @staticmethod
    def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
        if info.file_size > limit:
            raise zipfile.BadZipFile(f"`{printable_line(info.filename)}` is too large for a link")
        return archive.read(info)


def _by_name(members: list[zipfile.ZipInfo]) -> Iterator[tuple[str, zipfile.ZipInfo]]:
    """The members that are no folders, by name; programs for Windows may separate folders by backslashes."""
    backslashes = not any("/" in info.filename for info in members)
    for info in members:
        if not info.filename:
            raise zipfile.BadZipFile("a member has no name")
        if not info.is_dir():
            yield info.filename.replace("\\", "/") if backslashes else info.filename, info


def _require_readable(info: zipfile.ZipInfo, name: str) -> None:
    if info.flag_bits & _ENCRYPTED:
        raise TickdslError(f"`{printable_line(name)}` is encrypted", "unpack it, and set path= to the folder")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        method = _METHODS.get(info.compress_type, f"method {info.compress_type}")
        raise TickdslError(
            f"`{printable_line(name)}` is compressed with {method}, which is not supported",
            "unpack it, and set path= to the folder",
        )
