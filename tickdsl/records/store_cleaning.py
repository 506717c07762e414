"""Remove results that no run refers to, while other runs go on.

What is removed is renamed into ROOT/drafts, which takes a moment per result, and deleted there afterwards. If this
process dies, the next one that opens the store deletes the rest.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from tickdsl.errors import TickdslError
from tickdsl.records.files import disk_error
from tickdsl.records.folders import is_abandoned, owner_is_dead, subfolders, try_rename
from tickdsl.records.generations import study_of
from tickdsl.records.process import Process
from tickdsl.records.result_record import Damaged, read_record
from tickdsl.records.run_register import RegisteredRun, RunRegister
from tickdsl.records.store_contents import StoredItem, checkpoints, damaged_results, item, stored_results
from tickdsl.records.store_users import StoreUser

#: Age after which the work of a process on another host counts as abandoned.
_ABANDONED_SECONDS = 7 * 86_400.0
#: For how long a claim on a step is in force that its process on another host has not renewed.
_CLAIM_SECONDS = 600.0
#: The operation of evaluations of searches, which are results of their own without being steps of a plan.
_EVALUATION = "candidate"


@attrs.frozen
class CleaningRule:
    """What may be removed: by default, everything that no run refers to.

    `older`: only what was made that many seconds ago or earlier. `force`: also what runs refer to, if they are not
    running, not in `keep` and, with `older`, were not used since then.
    """

    older: float | None = None
    force: bool = False
    keep: frozenset[Path] = frozenset()

    def protects(self, user: StoreUser, now: float) -> bool:
        """Whether the results of a run stay."""
        is_new = self.older is not None and now - user.last_used < self.older
        return not self.force or user.running or user.folder in self.keep or is_new


@attrs.frozen
class Removal:
    """What is removed, by kind, and the results that stay. `forgotten`: registered runs whose folders were deleted."""

    results: tuple[StoredItem, ...]
    checkpoints: tuple[StoredItem, ...]
    damaged: tuple[StoredItem, ...]
    generations: tuple[StoredItem, ...]
    kept: tuple[StoredItem, ...]
    forgotten: tuple[RegisteredRun, ...]

    @property
    def items(self) -> tuple[StoredItem, ...]:
        """Everything that is removed."""
        return (*self.results, *self.checkpoints, *self.damaged, *self.generations)

    @property
    def size(self) -> int:
        """The bytes that are freed."""
        return sum(found.size for found in self.items)


def plan_removal(root: Path, users: Sequence[StoreUser], rule: CleaningRule) -> Removal:
    """What the rule removes from the store; nothing is changed. Raises TickdslError if a folder cannot be read."""
    now = time.time()
    protecting = [user for user in users if rule.protects(user, now)]
    protected = frozenset[str]().union(*(user.keys for user in protecting))
    studies = {study_of(user.keys) for user in protecting}

    def may_go(found: StoredItem) -> bool:
        return rule.older is None or now - found.made >= rule.older

    results: list[StoredItem] = []
    kept: list[StoredItem] = []
    for found in stored_results(root):
        stays = found.key in protected or not may_go(found) or _is_evaluation_of(found, protected)
        (kept if stays else results).append(found)
    generations = [found for found in _idle_generations(root) if found.key not in studies and may_go(found)]
    going = [found.path for found in generations]
    return Removal(
        tuple(results),
        tuple(
            found
            for found in checkpoints(root)
            if found.key not in protected and may_go(found) and _is_idle(found.path)
            if not any(folder in found.path.parents for folder in going)
        ),
        tuple(found for found in damaged_results(root) if may_go(found)),
        tuple(generations),
        tuple(kept),
        tuple(run for run in RunRegister(root).runs() if run.is_deleted and not _works(run)),
    )


def refuse_danger(root: Path, users: Sequence[StoreUser], removal: Removal) -> None:
    """Raise TickdslError if a run that is not among `users` works with the store, or a result has another format."""
    _refuse_unknown_workers(root, users)
    for found in removal.results:
        with contextlib.suppress(Damaged):
            read_record(found.path, found.key, hashes=False)


def remove(root: Path, find_users: Callable[[], Sequence[StoreUser]], rule: CleaningRule) -> Removal:
    """Remove what the rule says; `find_users` is called once runs that start now wait.

    Raises TickdslError as `plan_removal` and `refuse_danger` do, before anything is removed, or if the store cannot be
    written.
    """
    register, drafts = RunRegister(root), root / "drafts"
    moved: list[Path] = []
    try:
        with register.cleaning():
            users = find_users()
            removal = plan_removal(root, users, rule)
            refuse_danger(root, users, removal)
            drafts.mkdir(exist_ok=True)
            for found in removal.items:
                draft = drafts / f"{Process.current().token}~{secrets.token_hex(8)}"
                if try_rename(found.path, draft):
                    moved.append(draft)
            for run in removal.forgotten:
                register.forget(run)
    except OSError as error:
        raise disk_error(error, root) from error
    finally:
        for draft in moved:
            shutil.rmtree(draft, ignore_errors=True)
    return removal


def is_evaluation(record: Mapping[str, Any], networks: frozenset[str]) -> bool:
    """Whether a result is an evaluation of a search on one of these networks; runs do not list evaluations."""
    return record.get("operation") == _EVALUATION and record["parts"]["parents"].get("weights") in networks


def _is_evaluation_of(found: StoredItem, networks: frozenset[str]) -> bool:
    try:
        record = read_record(found.path, found.key, hashes=False)
    except (Damaged, TickdslError):
        return False
    return record is not None and is_evaluation(record, networks)


def _idle_generations(root: Path) -> Iterator[StoredItem]:
    """The generations of `--fresh` that no process works on, by the id of their study."""
    for folder in sorted(subfolders(root / "fresh")):
        if _is_idle(folder / "runs"):
            yield item(folder.name.partition("~")[0], folder)


def _is_idle(folder: Path) -> bool:
    """Whether the folders in this one belong to dead processes."""
    return all(owner_is_dead(part.name) or is_abandoned(part, _ABANDONED_SECONDS) for part in subfolders(folder))


def _works(run: RegisteredRun) -> bool:
    process = None if run.engine is None else Process.from_token(run.engine)
    return process is not None and process.alive() is not False


def _refuse_unknown_workers(root: Path, users: Sequence[StoreUser]) -> None:
    """Raise TickdslError if a process works on steps for a run that is not known: one of an earlier version."""
    known = {(user.engine.boot, user.engine.pid) for user in users if user.engine is not None}
    for place in (root / "claims", *(study / "claims" for study in subfolders(root / "fresh"))):
        for claim in subfolders(place):
            for holder in subfolders(claim):
                process = Process.from_token(holder.name)
                if process is None or (process.boot, process.pid) in known or process.alive() is False:
                    continue
                if process.alive() is None and is_abandoned(holder, _CLAIM_SECONDS):
                    continue
                raise TickdslError(
                    f"a run whose folder is unknown is using {root} (process {process.pid} on {process.host})",
                    "wait until it has ended, or name the folder of its run with --out",
                )
