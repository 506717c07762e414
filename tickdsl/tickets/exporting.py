"""Export a ticket: write it in a format, verify the file in a fresh process, and only then put it in its place."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import attrs

from tickdsl.errors import TickdslError, TicketError
from tickdsl.patient_reads import move
from tickdsl.tickets.choice import DENSE, TICKET, Choice
from tickdsl.tickets.export_format import ExportFormat, ExportOptions, Verified
from tickdsl.tickets.formats.table import FORMATS
from tickdsl.tickets.from_run import TicketOfRun


@attrs.frozen
class Exported:
    """A file, or a folder of files, that was exported and verified; `bytes` is the size of all of them."""

    path: Path
    bytes: int
    verified: Verified
    notes: tuple[str, ...]


def format_named(name: str | None, to: Path | None, options: ExportOptions) -> ExportFormat:
    """The format with this name; if there is none, the one whose files end like `to`, else `ticket`.

    Raises TicketError if the format does not take the options, or `to` has the suffix of another format.
    """
    by_suffix = {known.suffix: known for known in FORMATS.values() if known.suffix}
    suffix = to.suffix if to is not None else ""
    chosen = FORMATS[name] if name is not None else by_suffix.get(suffix, FORMATS[TICKET])
    if suffix in by_suffix and suffix != chosen.suffix:
        raise TicketError(
            f"--to {to}: `{suffix}` is the suffix of --format {by_suffix[suffix].name}, not of {chosen.name}",
            f"end the name with {chosen.suffix}" if chosen.suffix else "name a folder",
        )
    for option in ("raw", "sparse", "int8", "blocks", "part"):
        if getattr(options, option) and option not in chosen.options:
            takers = [known.name for known in FORMATS.values() if option in known.options]
            hint = f"use it with --format {' or '.join(takers)}" if takers else f"leave out --{option}"
            raise TicketError(f"--{option} does not apply to --format {chosen.name}", hint)
    return chosen


def export(
    taken: TicketOfRun, chosen: ExportFormat, to: Path | None = None, options: ExportOptions | None = None
) -> Exported:
    """Write a ticket of a run in a format and verify it.

    to: the file, or an existing folder for a file with a default name (default: in the current folder). Nothing is
    left, and what was there before stays, if something fails. Raises VerificationError if the file does not compute
    what the network computes, other TickdslErrors if it cannot be written.
    """
    options = options or ExportOptions()
    target = target_path(taken.choice, taken.ticket.origin.run, chosen, to, options.part)
    with _draft(target) as draft:
        notes = chosen.write(taken.subject, draft, options)
        verified = chosen.verify(draft, taken.subject, options)
        size = sum(path.stat().st_size for path in _files(draft))
        _put_in_place(draft, target)
    return Exported(target, size, verified, notes)


def target_path(choice: Choice, run: str, chosen: ExportFormat, to: Path | None, part: str = "") -> Path:
    """The path of the file; see `export`."""
    if to is not None and to.exists() and not (to.is_file() or to.is_dir()):
        raise TicketError(f"{to} is a device or a pipe, not a file", "name a file or a folder with --to")
    if to is not None and not (chosen.suffix and to.is_dir()):
        named = to if not chosen.suffix or to.suffix == chosen.suffix else to.with_name(to.name + chosen.suffix)
        if not named.parent.is_dir():
            raise TicketError(f"there is no folder {named.parent}", "create it, or name another file with --to")
        if named.is_dir() and chosen.suffix:
            raise TicketError(f"{named} is a folder", "name another file with --to")
        if not chosen.suffix and named.exists() and not _is_replaceable(named):
            raise TicketError(f"{named} exists already", "name a new folder with --to, or remove it")
        return named
    plan = re.sub(r"-\d{8}-\d{6}-[0-9a-f]{4}$", "", run) or "plan"
    network = DENSE if choice.contestant == DENSE else f"round{choice.level}"
    control = "" if choice.contestant in (TICKET, DENSE) else f"-{choice.contestant}"
    name = f"{plan}-{choice.arm.id}{control}-{network}-seed{choice.seed}{'-' if part else ''}{part}"
    name = re.sub(r"[^\w.=%-]+", "-", name).strip("-.")
    target = (to or Path()) / f"{name}{chosen.suffix}"
    if not chosen.suffix and target.exists() and not _is_replaceable(target):
        raise TicketError(f"{target} exists already", "name a new folder with --to, or remove it")
    return target


def _is_replaceable(folder: Path) -> bool:
    """Whether a folder is empty or holds nothing but an earlier export."""
    from tickdsl.tickets.formats.state_dict import CODE, WEIGHTS

    return folder.is_dir() and {path.name for path in folder.iterdir()} <= {CODE, WEIGHTS, "__pycache__"}


@contextlib.contextmanager
def _draft(target: Path) -> Iterator[Path]:
    """A path beside `target` with the same suffix; what is there at the end is removed."""
    draft = target.with_name(f".{target.stem}.{os.getpid()}.{secrets.token_hex(4)}{target.suffix}")
    try:
        yield draft
    except OSError as error:
        raise _cannot_write(target, error) from error
    except TickdslError as error:
        if isinstance(error.__cause__, OSError) and draft.name in error.message:
            raise _cannot_write(target, error.__cause__) from error
        raise
    finally:
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)


def _cannot_write(target: Path, error: OSError) -> TicketError:
    """The error for a file that cannot be written; it names the file that the user asked for, not its draft."""
    way_out = "name another file with --to"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        way_out = "free some disk space, or name a file on another disk with --to"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        way_out = "change the permissions of its folder, or name another file with --to"
    return TicketError(f"cannot write {target}: {error.strerror or error}", way_out)


def _put_in_place(draft: Path, target: Path) -> None:
    if draft.is_dir():
        shutil.rmtree(draft / "__pycache__", ignore_errors=True)  # of the fresh process
        if target.exists():
            shutil.rmtree(target)
    move(draft, target)


def _files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
