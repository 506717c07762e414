"""Layer patterns: segment globs over module paths. `*` stays inside one dotted segment, `**` crosses them."""

from __future__ import annotations

import fnmatch
import functools


def matches(pattern: str, path: str) -> bool:
    """Whether the pattern names the module or one that holds it: `layer1` matches `layer1.0.conv1`, not `layer10`."""
    want, have = tuple(pattern.split(".")), tuple(path.split("."))
    return any(_match(want, have[:end]) for end in range(1, len(have) + 1))


@functools.lru_cache(maxsize=65536)
def _match(want: tuple[str, ...], have: tuple[str, ...]) -> bool:
    if not want:
        return not have
    if want[0] == "**":
        return any(_match(want[1:], have[i:]) for i in range(len(have) + 1))
    return bool(have) and fnmatch.fnmatchcase(have[0], want[0]) and _match(want[1:], have[1:])
