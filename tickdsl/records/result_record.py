"""The record of a result, `result.json`: what made it, its metrics, and the size and hash of its files.

It has a checksum of its own (`sha256`) over its other content, however that is formatted. Records of earlier versions
have none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tickdsl.errors import TickdslError
from tickdsl.patient_reads import file_digest, patiently
from tickdsl.records.files import disk_error, fsync_file

VERSION = 1
NAME = "result.json"


class Damaged(Exception):
    """Raised for a result whose files do not match its record; the message says how."""


def write_record(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the record of the result in `folder` with the hashes of its files, and sync all files to the disk.

    Folders are not synced: after a power failure the newest results may be missing, and are computed again.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listed = {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": file_digest(path)}
        for path in files
    }
    data = {**content, "files": listed}
    record = folder / NAME
    record.write_text(json.dumps({**data, "sha256": _checksum(data)}, allow_nan=False))
    mode = record.stat().st_mode & 0o666  # as the umask allows, also for files that were created with 0600
    for path in files:
        path.chmod(mode)
    for path in [record, *files]:
        fsync_file(path)


def read_record(folder: Path, key: str, hashes: bool) -> dict[str, Any] | None:
    """The checked record of the result `key` in `folder`; None if there is no such folder.

    The size of every file is checked, and with `hashes` its content. Raises Damaged if something does not match, and
    TickdslError if it cannot be read or has another format: only what was read can be damaged.
    """
    try:
        text = patiently((folder / NAME).read_bytes)
    except (FileNotFoundError, NotADirectoryError):
        if not patiently(folder.exists):
            return None
        raise Damaged(f"{NAME} is missing") from None
    except OSError as error:
        raise disk_error(error, folder, "read") from error
    data = check_record(text, key, folder)
    changed = [name for name, file in data["files"].items() if not _intact(folder / name, file, hashes)]
    if changed:
        raise Damaged(f"changed or missing: {', '.join(changed)}")
    return data


def check_record(text: bytes, key: str, place: object = "a result") -> dict[str, Any]:
    """The record of the result `key` from its text, which is in `place`; its files are not looked at.

    Raises Damaged if it does not match its checksum, TickdslError if it has another format.
    """
    try:
        data: dict[str, Any] = json.loads(text)
        checksum = data.pop("sha256", None)
        if data["v"] != VERSION:
            raise TickdslError(
                f"{place} was written by another version of tickdsl (format {data['v']}, not {VERSION})",
                "use that version, or name another folder with --store",
            )
        if checksum is not None and checksum != _checksum(data):
            raise Damaged(f"{NAME} was changed")
        if data["key"] != key:
            raise Damaged("it has another key")
        if not all({"size", "sha256"} <= file.keys() for file in data["files"].values()):
            raise Damaged(f"{NAME} is unreadable")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Damaged(f"{NAME} is unreadable") from None
    return data


def _checksum(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _intact(path: Path, recorded: Mapping[str, Any], hashes: bool) -> bool:
    try:
        if patiently(path.stat).st_size != recorded["size"]:
            return False
        return not hashes or file_digest(path) == recorded["sha256"]
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False
    except OSError as error:
        raise disk_error(error, path, "read") from error
