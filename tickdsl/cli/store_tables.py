"""The tables of `tickdsl store size` and `tickdsl store list`."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tickdsl.cli.output import echo
from tickdsl.plurals import plural
from tickdsl.records.result_record import Damaged, read_record
from tickdsl.records.store_cleaning import Removal
from tickdsl.records.store_contents import FOLDERS, StoredItem, stored_results, total_size
from tickdsl.records.store_users import StoreUser
from tickdsl.results.formatting import quantity

_SHOWN_KEY = 12


def sizes(root: Path, users: Sequence[StoreUser], removal: Removal) -> dict[str, Any]:
    """The sizes of a store in a folder; see `sizes_of`."""
    folders = {name: total_size(root / name) for name in FOLDERS}
    return sizes_of(str(root), folders, total_size(root), users, removal)


def sizes_of(
    store: str, folders: Mapping[str, int], size: int, users: Sequence[StoreUser], removal: Removal
) -> dict[str, Any]:
    """The sizes of a store in bytes: by folder, by run, and what `gc` would remove.

    `alone` is what only this run refers to.
    """
    size_by_key = {found.key: found.size for found in (*removal.results, *removal.kept)}
    number_of_users: dict[str, int] = {}
    for user in users:
        for key in user.keys & size_by_key.keys():
            number_of_users[key] = number_of_users.get(key, 0) + 1
    runs = []
    for user in reversed(users):
        stored = user.keys & size_by_key.keys()
        runs.append(
            {
                "run": user.name,
                "folder": str(user.folder),
                "running": user.running,
                "in_sight": user.folder.is_dir(),
                "steps": len(user.keys),
                "results": len(stored),
                "bytes": sum(size_by_key[key] for key in stored),
                "alone": sum(size_by_key[key] for key in stored if number_of_users[key] == 1),
            }
        )
    return {
        "v": 1,
        "store": store,
        "results": len(size_by_key),
        "bytes": size,
        "folders": dict(folders),
        "runs": runs,
        "removable": {"results": len(removal.results), "bytes": removal.size},
    }


def print_sizes(content: dict[str, Any]) -> None:
    """Print what `sizes` returns."""
    echo(f"{content['store']}: {size_text(content['bytes'])}, {plural(content['results'], 'result')}")
    parts = [f"{name} {size_text(size)}" for name, size in content["folders"].items() if size]
    if parts:
        echo(", ".join(parts))
    if content["runs"]:
        rows = [("run", "results", "size", "alone")]
        for run in content["runs"]:
            remark = " (running)" if run["running"] else "" if run["in_sight"] else " (out of sight)"
            name = run["run"] + remark
            counts = f"{run['results']}/{run['steps']}"
            rows.append((name, counts, size_text(run["bytes"]), size_text(run["alone"])))
        _print_columns(rows, left=1)
    removable = content["removable"]
    if removable["bytes"]:
        echo(f"`tickdsl store gc` would remove {size_text(removable['bytes'])} that no run refers to")
    else:
        echo("`tickdsl store gc` would remove nothing")


def result_rows(root: Path, users: Sequence[StoreUser], keys: frozenset[str] | None) -> list[dict[str, Any]]:
    """The results stored in a folder, or those among `keys`, the newest first.

    Raises TickdslError for a result of another version.
    """
    return rows_of(stored_results(root), lambda found: _operation(found.path, found.key), users, keys)


def rows_of(
    results: Iterable[StoredItem],
    operation: Callable[[StoredItem], str],
    users: Sequence[StoreUser],
    keys: frozenset[str] | None,
) -> list[dict[str, Any]]:
    """Results, or those among `keys`, the newest first."""
    return [
        {
            "key": found.key,
            "operation": operation(found),
            "bytes": found.size,
            "made": found.made,
            "folder": str(found.path),
            "runs": [user.name for user in users if found.key in user.keys],
        }
        for found in sorted(results, key=lambda found: (-found.made, found.key))
        if keys is None or found.key in keys
    ]


def print_results(rows: Sequence[dict[str, Any]], root: Path | str) -> None:
    """Print what `result_rows` returns."""
    if not rows:
        echo(f"no results in {root}")
        return
    table = [("key", "operation", "made", "size", "runs")]
    for row in rows:
        made = f"{datetime.datetime.fromtimestamp(row['made']):%Y-%m-%d %H:%M}"
        table.append((row["key"][:_SHOWN_KEY], row["operation"], made, size_text(row["bytes"]), str(len(row["runs"]))))
    _print_columns(table, left=3)


def size_text(size: int) -> str:
    """A number of bytes to three digits: 1.35 MB."""
    return quantity(float(size), "B")


def _operation(folder: Path, key: str) -> str:
    try:
        record = read_record(folder, key, hashes=False)
    except Damaged:
        return "damaged"
    return "removed" if record is None else str(record.get("operation", "?"))


def _print_columns(rows: Sequence[tuple[str, ...]], left: int) -> None:
    """Print rows in columns, the first `left` of them aligned to the left."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        echo("  ".join(cells).rstrip())
