"""All keys, as they are bound now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .detail import Detail

Section = tuple[str, Sequence[tuple[str, str]]]


def help_screen(sections: Iterable[Section]) -> Detail:
    """A page of the sections: each a heading with its keys and what they do."""
    lines = []
    for heading, keys in sections:
        if keys:
            lines += [heading, *(f"  {key:14} {said}" for key, said in keys), ""]
    lines += [
        "Marks",
        "  ○ waiting  ◐ running  ● done  ◉ stored earlier  ⊘ skipped  ✗ failed  ⏸ paused",
        "  Each arm has a colour and a marker of its own, the same on every screen.",
    ]
    return Detail("Keys", "\n".join(lines))
