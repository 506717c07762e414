"""Whether plans may run code that they name in quotes (`--allow-code`), for the whole process."""

from __future__ import annotations

import sys
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
