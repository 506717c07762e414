"""Verify the results of a store: every file against its checksum, and every key against the inputs it stands for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs

from tickdsl.errors import TickdslError
from tickdsl.records.canonical import digest
from tickdsl.records.store import Store


@attrs.frozen
class Verification:
    """`intact` results, the keys of `damaged` ones, and errors of results that could not be read."""

    intact: int
    damaged: tuple[str, ...]
    unreadable: tuple[TickdslError, ...]


def verify_store(root: Path, keys: list[str], report: Callable[[str], None]) -> Verification:
    """Verify results by key; `report` receives a message about each that is damaged.

    Damaged results are moved to ROOT/damaged, as by whatever reads them.
    """
    messages: list[str] = []
    store = Store(root, messages.append)
    intact = 0
    damaged: list[str] = []
    unreadable: list[TickdslError] = []
    for key in keys:
        messages.clear()
        try:
            stored = store.check(key)
            if stored and (reason := _wrong_key(store, key)) is not None:
                messages.append(reason)
        except TickdslError as error:
            unreadable.append(error)
            continue
        if messages:
            damaged.append(key)
            report(messages[0])
        elif stored:  # else it was removed in the meantime
            intact += 1
    return Verification(intact, tuple(damaged), tuple(unreadable))


def _wrong_key(store: Store, key: str) -> str | None:
    """What is wrong if the inputs that a result records do not have its key as their fingerprint."""
    try:
        result = store.get(key)
    except KeyError:
        return None
    parts = result.data.get("parts")
    if parts is None or digest(parts) == key:
        return None
    return f"{result.folder} has the key of other inputs than it records; remove this folder, it will be computed again"
