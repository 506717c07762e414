"""The help dialog."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .detail import Detail

Section = tuple[str, Sequence[tuple[str, str]]]


def help_screen(sections: Iterable[Section]) -> Detail:
    """A dialog that lists the key bindings by section, and explains the symbols."""
    lines = []
    for heading, keys in sections:
        if keys:
            lines += [heading, *(f"  {key:14} {description}" for key, description in keys), ""]
    lines += [
        "Symbols",
        "  ○ waiting  ◐ running  ● done  ◉ already stored  ⊘ skipped  ✗ failed  ⏸ paused",
        "  Each arm has its own colour and marker, the same on every screen.",
    ]
    return Detail("Keys", "\n".join(lines))
