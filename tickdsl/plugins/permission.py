"""Whether plans may run code that they name in quotes (`--allow-code`), for the whole process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_allowed = False


def allow_code() -> None:
    """Allow quoted names to run code for the rest of the process, including modules in the current directory."""
    global _allowed
    _allowed = True
    cwd = str(Path.cwd())
    if cwd not in sys.path:
        sys.path.insert(0, cwd)


def code_allowed() -> bool:
    """Whether quoted names may run code."""
    return _allowed


@contextmanager
def code_allowed_within(allowed: bool) -> Iterator[None]:
    """Within this block, quoted names may run code if `allowed`, or if they could before."""
    global _allowed
    before = _allowed
    if allowed:
        allow_code()
    try:
        yield
    finally:
        _allowed = before
