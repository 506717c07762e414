"""`tickdsl init`: plans to start from."""

from __future__ import annotations

import argparse
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from tickdsl.cli.arguments import Verbs, add_verb
from tickdsl.cli.output import OK, echo
from tickdsl.errors import TickdslError
from tickdsl.plurals import plural
from tickdsl.records.files import disk_error


def add(verbs: Verbs) -> None:
    """Add the command to the parser."""
    init = add_verb(
        verbs,
        "init",
        "write example plans into a folder",
        "Write the plans that ship with tickdsl into a folder, as a starting point.",
        (("tickdsl init", "write them into plans/"), ("tickdsl init experiments", "write them into experiments/")),
    )
    init.add_argument(
        "folder", metavar="DIR", nargs="?", type=Path, default=Path("plans"), help="folder to write to (default: plans)"
    )
    init.add_argument("--force", action="store_true", help="overwrite edited plans (default: stop before writing any)")
    init.set_defaults(verb=_init)


def _init(arguments: argparse.Namespace) -> int:
    folder: Path = arguments.folder
    plans = dict(_shipped_plans())
    changed = [name for name, text in plans.items() if _differs(folder / name, text)]
    if changed and not arguments.force:
        shown = ", ".join(str(folder / name) for name in changed[:3]) + (", …" if len(changed) > 3 else "")
        raise TickdslError(
            f"{plural(len(changed), 'plan')} would be overwritten: {shown}",
            "choose another folder, or use --force to overwrite",
        )
    for name, text in plans.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        except OSError as error:
            raise disk_error(error, path) from error
    echo(f"wrote {plural(len(plans), 'plan')} to {folder}; start with `tickdsl run {folder / 'first.plan'}`")
    return OK


def _shipped_plans(folder: Traversable | None = None, prefix: str = "") -> list[tuple[str, str]]:
    """(path below the folder of plans, text) of every plan in the package."""
    folder = folder or resources.files("tickdsl.plans")
    plans: list[tuple[str, str]] = []
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            plans += _shipped_plans(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".plan"):
            plans.append((prefix + entry.name, entry.read_text("utf-8")))
    return plans


def _differs(path: Path, text: str) -> bool:
    """Whether a file is in the way that says something else."""
    try:
        return path.read_text("utf-8") != text
    except FileNotFoundError:
        return False
    except (OSError, UnicodeDecodeError):
        return True
