"""The command that continues a run."""

from __future__ import annotations

from collections.abc import Sequence

#: What chose how the first run was shown, or made it start over; a run is not resumed with these.
_LEFT_OUT = frozenset({"--fresh", "--detach", "--plain"})


def resuming_arguments(arguments: Sequence[str]) -> tuple[str, ...]:
    """The arguments of `tickdsl run` without those that must not be repeated to resume it."""
    return tuple(word for word in arguments if word not in _LEFT_OUT)
