"""Generations of results: what runs with `--fresh` make anew, and remember, so that a run that was stopped goes on.

    STORE/fresh/STUDY~ID/made/KEY        this step was made anew
    STORE/fresh/STUDY~ID/unfinished/     checkpoints, like those of the store
    STORE/fresh/STUDY~ID/claims/         claims, like those of the store
    STORE/fresh/STUDY~ID/runs/PROCESS/   the processes that take part
    STORE/fresh/STUDY~ID/done            every step was made anew

A store that is opened with a generation has only the results that were made in it, and continues only its checkpoints.
All other runs keep the stored results: each is replaced in the moment in which the new one is complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

import attrs

from tickdsl.records.files import disk_error
from tickdsl.records.folders import owner_is_dead, subfolders
from tickdsl.records.process import Process


@attrs.frozen
class Generation:
    """The results that one fresh run, and those that continued it, have made."""

    folder: Path

    def has_made(self, key: str) -> bool:
        """Whether the result of `key` was made in this generation."""
        return (self.folder / "made" / key).exists()

    def mark_made(self, key: str) -> None:
        """Record that the result of `key` was made in this generation."""
        made = self.folder / "made" / key
        made.parent.mkdir(parents=True, exist_ok=True)
        made.touch()

    @property
    def number_made(self) -> int:
        """How many results were made in this generation."""
        made = self.folder / "made"
        return sum(1 for _ in made.iterdir()) if made.is_dir() else 0

    @property
    def is_done(self) -> bool:
        """Whether every step of the study was made anew."""
        return (self.folder / "done").exists()

    def finish(self) -> None:
        """Record that every step was made anew: the next fresh run of the study starts over.

        Raises TickdslError if the store cannot be written.
        """
        try:
            (self.folder / "done").touch()
        except OSError as error:
            raise disk_error(error, self.folder) from error

    def join(self) -> None:
        """Record that this process takes part."""
        (self.folder / "runs" / Process.current().token).mkdir(parents=True, exist_ok=True)

    def leave(self) -> None:
        """Record that this process takes part no longer; the last one removes a generation that is done."""
        with contextlib.suppress(OSError):
            (self.folder / "runs" / Process.current().token).rmdir()
        self.remove_if_over()

    def remove_if_over(self) -> None:
        """Remove a generation that is done and in which no process takes part; its results stay in the store."""
        if self.is_done and all(owner_is_dead(run.name) for run in subfolders(self.folder / "runs")):
            shutil.rmtree(self.folder, ignore_errors=True)


def study_of(steps: Iterable[str]) -> str:
    """The id of the study with these steps, given by their keys."""
    return hashlib.sha256("\n".join(sorted(steps)).encode()).hexdigest()[:16]


def join_generation(store: Path, steps: Iterable[str], start_over: bool = False) -> Generation:
    """Join the unfinished generation of a study, given by the keys of its steps, or begin one.

    `start_over` begins one in any case. Raises TickdslError if the store cannot be written.
    """
    root = store / "fresh"
    study = study_of(steps)
    try:
        for known in sorted(subfolders(root)):
            generation = Generation(known)
            if not generation.is_done and known.name.startswith(f"{study}~"):
                if not start_over:
                    generation.join()
                    return generation
                generation.finish()
            generation.remove_if_over()
        generation = Generation(root / f"{study}~{secrets.token_hex(4)}")
        generation.join()
    except OSError as error:
        raise disk_error(error, root) from error
    return generation
