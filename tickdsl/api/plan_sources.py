"""Plans as arguments: a path, or the text of a plan."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from tickdsl.argument_types import require_path
from tickdsl.lang.reading.parse import read_source
from tickdsl.lang.reading.plan_files import PLAN_SUFFIX
from tickdsl.lang.syntax import Source
from tickdsl.records.paths import default_data_folder

StrPath: TypeAlias = str | os.PathLike[str]
#: A value of `--set`, as the plan would write it, or as Python writes it.
SetValue: TypeAlias = str | int | float | Sequence[str | int | float]

#: What messages call a plan that was given as text; its includes are relative to the working folder.
TEXT_NAME = "plan"


def plan_source(plan: StrPath) -> Source:
    """The source of a plan: a path object is read; a string is a path if it cannot be the text of a plan.

    A string is a path if it has no line break and either ends in `.plan`, or has no spaces, or names a file.

    Raises TickdslError if `plan` is neither, or the file cannot be read.
    """
    if isinstance(plan, str) and not _is_path(plan):
        return Source(TEXT_NAME, plan.replace("\r\n", "\n").replace("\r", "\n"))
    return read_source(require_path(plan, "plan", "give the path of a .plan file, or the text of a plan"))


def data_folder(data: StrPath | None) -> Path:
    """The folder of the data sets that a call names, or the default."""
    return default_data_folder() if data is None else require_path(data, "data")


def _is_path(text: str) -> bool:
    words = text.split()
    if "\n" in text or not words:
        return False
    return text.endswith(PLAN_SUFFIX) or len(words) == 1 or Path(text).is_file()


def set_texts(values: Mapping[str, SetValue] | None) -> dict[str, str]:
    """The values of `set` as `--set NAME=VALUE` would have them; a list is one of the language."""
    return {name: _set_text(value) for name, value in (values or {}).items()}


def _set_text(value: SetValue) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return f"[{', '.join(map(str, value))}]"
    return str(value)
