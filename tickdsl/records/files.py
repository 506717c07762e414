"""Write files atomically, and turn errors of the disk into messages for the user."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from pathlib import Path
from typing import Literal

from tickdsl.errors import TickdslError
from tickdsl.patient_reads import move


def write_atomically(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """Write `content` to `path` atomically: a reader sees the old file or the new one, never a part.

    A link stays, and the file that it leads to is written. A device or a pipe is written to, and not replaced by a
    file. `mode` sets the permissions of the file (default: those of any new file). Raises TickdslError if the file
    cannot be written.
    """
    try:
        path = Path(os.path.realpath(path))
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_bytes(content)
            return
    except OSError as error:
        raise disk_error(error, path) from error
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            draft.chmod(stat.S_IMODE(mode))
        move(draft, path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise disk_error(error, path) from error
    except BaseException:  # Ctrl-C, for example
        draft.unlink(missing_ok=True)
        raise


def fsync_file(path: Path) -> None:
    """Flush the content of a file to the disk."""
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)  # Windows flushes only what it may write
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def disk_error(error: OSError, path: Path, doing: Literal["write", "read"] = "write") -> TickdslError:
    """The error message for the user for an operating system error at `path`: what failed there, and what to do."""
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return TickdslError(
            f"no space left on the disk for {path}",
            "free some disk space, or name another folder with --store or --out, then run the plan again to continue",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return TickdslError(
            f"cannot {doing} {path}: {reason}",
            "change its permissions, or name another folder with --store or --out",
        )
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return TickdslError(
            f"{path} cannot be a folder: a file is in the way",
            "remove the file, or name another folder with --store or --out",
        )
    if error.errno == errno.EFBIG:
        return TickdslError(
            f"cannot write {path}: the file is larger than is allowed",
            "raise the limit (`ulimit -f unlimited`), or use another file system for --store and --out",
        )
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return TickdslError(
            f"cannot {doing} {path}: too many files are open",
            "raise the limit (`ulimit -n 4096`) or use fewer --jobs, then run the same command again",
        )
    if error.errno == errno.ENOMEM:
        return TickdslError(
            f"cannot {doing} {path}: there is no memory left",
            "close other programs or use fewer --jobs, then run the same command again",
        )
    if doing == "read":
        return TickdslError(
            f"cannot read {path}: {reason}",
            "check the disk or the network, then run the same command again",
        )
    return TickdslError(f"{path}: {reason}", "check the disk, or name another folder with --store or --out")
