"""Layer patterns: globs over module paths, where `*` matches within a dotted segment, and `**` across segments."""

from __future__ import annotations

import fnmatch
import functools


def matches(pattern: str, path: str) -> bool:
    """Whether a pattern matches a module or one of its ancestors: `layer1` matches `layer1.0.conv1`, not `layer10`."""
    pattern_parts, path_parts = tuple(pattern.split(".")), tuple(path.split("."))
    return any(_parts_match(pattern_parts, path_parts[:end]) for end in range(1, len(path_parts) + 1))


@functools.lru_cache(maxsize=65536)
def _parts_match(pattern_parts: tuple[str, ...], path_parts: tuple[str, ...]) -> bool:
    if not pattern_parts:
        return not path_parts
    if pattern_parts[0] == "**":
        return any(_parts_match(pattern_parts[1:], path_parts[i:]) for i in range(len(path_parts) + 1))
    return (
        bool(path_parts)
        and fnmatch.fnmatchcase(path_parts[0], pattern_parts[0])
        and _parts_match(pattern_parts[1:], path_parts[1:])
    )
