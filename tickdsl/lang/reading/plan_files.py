"""Read plan files: regular files, and pipes that the user names, of bounded size."""

from __future__ import annotations

import os
import select
import stat
from pathlib import Path
from typing import BinaryIO

from tickdsl.errors import TickdslError

#: The largest plan, and the largest total of the files that a plan includes, in bytes.
MAX_PLAN_BYTES = 2**20
#: Included files need this suffix: an error shows lines of the file, and other files may be private.
PLAN_SUFFIX = ".plan"
#: Seconds to wait for the writer of a named pipe.
PIPE_SECONDS = 30.0
_NO_WAITING = getattr(os, "O_NONBLOCK", 0)
_AS_WRITTEN = getattr(os, "O_BINARY", 0)


class NoSuchPlanError(TickdslError):
    """Raised if there is no file at the path of a plan."""


def read_plan_bytes(path: str | Path, *, pipes: bool = True) -> bytes:
    """The content of a plan file; with `pipes`, also of a pipe such as `<(…)` of a shell.

    Raises TickdslError if the file is missing, too large, or neither.
    """
    try:
        _require_readable_kind(Path(path).stat().st_mode, path, pipes)
        descriptor = os.open(path, os.O_RDONLY | _NO_WAITING | _AS_WRITTEN)
        try:
            mode = os.fstat(descriptor).st_mode  # again: another file may have taken its place
            _require_readable_kind(mode, path, pipes)
            if stat.S_ISFIFO(mode):
                _await_writer(descriptor, path)
            content = _read_bounded(descriptor)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise NoSuchPlanError(f"{path}: no such file", "give the path of a .plan file, e.g. plans/card.plan") from None
    except OSError as error:
        raise TickdslError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise TickdslError(f"{str(path)!r} is not a valid path") from None
    return _checked_size(content, path)


def read_stream(stream: BinaryIO, name: str) -> bytes:
    """All of a stream. Raises TickdslError if it is too large for a plan."""
    return _checked_size(stream.read(MAX_PLAN_BYTES + 1), name)


def read_included_bytes(path: Path) -> bytes:
    """The content of an included file: a regular file whose name ends in `.plan`, even if it is a link.

    Raises TickdslError for any other.
    """
    if path.suffix != PLAN_SUFFIX:
        raise TickdslError(f"{path}: its name does not end in {PLAN_SUFFIX}", f"rename it to {path.stem}{PLAN_SUFFIX}")
    target = real_path(path)
    if target.suffix != PLAN_SUFFIX:
        raise TickdslError(f"{path}: a link to a file whose name does not end in {PLAN_SUFFIX}")
    return read_plan_bytes(path, pipes=False)


def real_path(path: str | Path) -> Path:
    """The absolute path without links; where links lead nowhere or round in circles, as far as they can be followed."""
    return Path(os.path.realpath(path))


def decode_plan(content: bytes, path: str | Path) -> str:
    """The text of a plan file. Raises TickdslError if it is not UTF-8 (with or without a byte-order mark)."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TickdslError(f"{path}: invalid UTF-8 at byte {error.start}", "save the plan as UTF-8") from None


def _read_bounded(descriptor: int) -> bytes:
    """All of a file, or its first MAX_PLAN_BYTES + 1 bytes."""
    content = b""
    while len(content) <= MAX_PLAN_BYTES and (part := os.read(descriptor, MAX_PLAN_BYTES + 1 - len(content))):
        content += part
    return content


def _checked_size(content: bytes, name: str | Path) -> bytes:
    if len(content) > MAX_PLAN_BYTES:
        limit = f"{MAX_PLAN_BYTES // 2**20} MiB"
        raise TickdslError(f"{name}: larger than a plan can be ({limit})", "check that this file is a plan")
    return content


def _await_writer(descriptor: int, path: str | Path) -> None:
    """Wait until a pipe has data or its writers have closed it. Raises TickdslError if nobody opens a named pipe."""
    # The pipe of a process substitution has no name, and has had its writer since before it was opened.
    is_named = real_path(path).exists()
    if is_named and not select.select([descriptor], [], [], PIPE_SECONDS)[0]:
        raise TickdslError(f"{path}: nothing was written to this pipe within {PIPE_SECONDS:g} s", "give a plan file")
    os.set_blocking(descriptor, True)


def _require_readable_kind(mode: int, path: str | Path, pipes: bool) -> None:
    """Raise TickdslError if a file is neither regular nor, with `pipes`, a pipe."""
    if stat.S_ISREG(mode) or (pipes and stat.S_ISFIFO(mode)):
        return
    if stat.S_ISDIR(mode):
        kind = "a folder"
    elif stat.S_ISFIFO(mode):
        kind = "a pipe"
    else:
        kind = "a socket" if stat.S_ISSOCK(mode) else "a device"
    raise TickdslError(f"{path}: {kind}, not a plan file", "give the path of a .plan file, e.g. plans/card.plan")
