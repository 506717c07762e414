"""Whether plans may name code that runs: `--allow-code`. Of a process, because what a process imported stays in it."""

from __future__ import annotations

import sys
from pathlib import Path

_allowed = False


def allow_code() -> None:
    """From now on quoted names run code, also from the current directory."""
    global _allowed
    _allowed = True
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def code_allowed() -> bool:
    """Whether quoted names run code."""
    return _allowed
