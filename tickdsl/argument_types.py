"""Arguments of functions that users call: one of a wrong type is refused where it is given, with its name."""

from __future__ import annotations

import operator
import os
from pathlib import Path

from tickdsl.errors import TickdslError


def require_path(value: object, name: str, way_out: str = "give a path, as text or as a `pathlib.Path`") -> Path:
    """The path that the argument `name` is. Raises TickdslError if it is none, or cannot be that of any file."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str) or not value or "\0" in value:
        raise TickdslError(f"`{name}` cannot be {_shown(value)}", way_out)
    return Path(value)


def require_whole(value: object, name: str, least: int | None = None) -> int:
    """The whole number that the argument `name` is, also one of NumPy. Raises TickdslError if it is none."""
    at_least = "" if least is None else f" of at least {least}"
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or (least is not None and number < least):
        raise TickdslError(f"`{name}` cannot be {_shown(value)}", f"use a whole number{at_least}")
    return number


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
