"""Files that are either whole or absent, and the words for a disk that will not take them."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from pathlib import Path

from tickdsl.errors import TickdslError


def write_atomically(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """Put `content` at `path` at once: a reader sees the old file or the new one, never a part.

    mode: the permissions of the file; by default those of any new file.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            draft.chmod(stat.S_IMODE(mode))
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise disk_error(error, path) from error


def fsync_file(path: Path) -> None:
    """Force a file to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def disk_error(error: OSError, path: Path) -> TickdslError:
    """The error a person sees for what the operating system said about `path`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return TickdslError(
            f"no space is left for {path}",
            "free some space, or name another folder with --store or --out; a second run goes on from here",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return TickdslError(
            f"{path} cannot be written: {error.strerror}",
            "change its permissions, or name another folder with --store or --out",
        )
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return TickdslError(
            f"{path} should be a folder, but a file is in the way",
            "remove that file, or name another folder with --store or --out",
        )
    return TickdslError(f"{path}: {error.strerror or error}", "check the disk, or name another folder")
