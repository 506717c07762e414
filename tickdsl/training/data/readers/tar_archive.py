"""Images in a tar archive, compressed or not, read as a stream.

A tar that was cut short is found: it must end with a block of zeros, and a compressed one with its checksum.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import posixpath
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import attrs

from tickdsl.printable import printable_line
from tickdsl.training.data.readers.archive_index import ArchiveIndex
from tickdsl.training.data.readers.file_entries import Entry, Listing

#: What reading a damaged archive raises.
ERRORS = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, UnicodeDecodeError)

#: Headers at which tarfile stops as if they were the end of the archive.
_CUT_SHORT = (tarfile.TruncatedHeaderError, tarfile.EmptyHeaderError)  # type: ignore[attr-defined]
_INVALID = tarfile.InvalidHeaderError  # type: ignore[attr-defined]

_BLOCK = 512
_CHUNK = 1 << 20
#: The most bytes of a header that describes the next member, such as a long name.
_MAX_HEADER = 1 << 20
_HEADER_TYPES = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip
_DECOMPRESSORS: tuple[tuple[bytes, Callable[[Path], Any]], ...] = (
    (b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\x00", lzma.open), (b"\x5d\x00\x00", lzma.open),
)  # fmt: skip


@attrs.frozen
class TarArchive:
    """A tar archive of images."""

    path: Path

    @staticmethod
    def matches(start: bytes) -> bool:
        """Whether a file that starts with these bytes, at least 512 if it has as many, is a tar archive."""
        if any(start.startswith(magic) for magic, _ in _DECOMPRESSORS):
            return True
        try:
            tarfile.TarInfo.frombuf(start[:_BLOCK], "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            return len(start) >= _BLOCK and not any(start[:_BLOCK])  # an archive without members
        return True

    def listing(self) -> Listing:
        """The images in the archive, which is read to its end."""
        index = ArchiveIndex()
        with self._open() as (archive, stream):
            for info in _members(archive):
                if info.isfile():
                    index.add_file(info.name, info.size)
                elif info.islnk():
                    index.add_link(info.name, info.linkname)
                elif info.issym():
                    index.add_link(info.name, posixpath.join(posixpath.dirname(info.name), info.linkname))
            _require_zeros(stream)
        return index.listing()

    def read(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, bytes]]:
        """The bytes of entries, in the order of the archive."""
        wanted: dict[str, list[Entry]] = {}
        for entry in entries:
            wanted.setdefault(str(entry.origin), []).append(entry)
        with self._open() as (archive, _):
            for info in _members(archive):
                if info.name in wanted and (file := archive.extractfile(info)) is not None:
                    content = file.read()
                    for entry in wanted[info.name]:
                        yield entry, content

    @contextlib.contextmanager
    def _open(self) -> Iterator[tuple[tarfile.TarFile, IO[bytes]]]:
        with self.path.open("rb") as file:
            start = file.read(8)
        decompress = next((open_ for magic, open_ in _DECOMPRESSORS if start.startswith(magic)), None)
        stream: IO[bytes] = decompress(self.path) if decompress else self.path.open("rb")
        # `r|` never seeks: members that are not read are skipped in small pieces, so memory is bounded.
        with stream, tarfile.open(fileobj=stream, mode="r|", tarinfo=_StrictTarInfo) as archive:
            yield archive, stream


class _StrictTarInfo(tarfile.TarInfo):
    """A header that ends an archive only if it is the mark of the end; tarfile also stops at damaged and cut ones."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> _StrictTarInfo:
        try:
            return super().fromtarfile(archive)
        except _CUT_SHORT as error:
            raise tarfile.ReadError("it is cut short: the end-of-archive mark is missing") from error
        except _INVALID as error:
            raise tarfile.ReadError(f"a header is wrong ({error})") from error

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _StrictTarInfo:
        info = super().frombuf(buf, encoding, errors)
        if info.type in _HEADER_TYPES and info.size > _MAX_HEADER:
            raise tarfile.ReadError(f"a header of {info.size:,} bytes is too large")
        if info.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError(f"`{printable_line(info.name)}` is a sparse file, which is not supported")
        return info


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (info := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]  # tarfile keeps them all
        yield info


def _require_zeros(stream: IO[bytes]) -> None:
    """Read the rest of an archive, which verifies its checksum. Raises ReadError if it is more than padding."""
    while chunk := stream.read(_CHUNK):
        if chunk.count(0) != len(chunk):
            raise tarfile.ReadError("data follows its end-of-archive mark: it may be several archives in one file")
