"""Readable labels of steps: `train ticket, round 3`, `re-initialise`."""

from __future__ import annotations

import re
from collections.abc import Sequence

_WHOLE_LABELS = {"init": "initialise", "random init": "re-initialise"}
_ROUND_LABELS = (
    (re.compile(r"judge level (\d+)"), r"train ticket, round \1"),
    (re.compile(r"transfer level (\d+)"), r"train transferred ticket, round \1"),
    (re.compile(r"prune round (\d+)"), r"prune, round \1"),
)


def readable_label(label: str, contestant: str = "") -> str:
    """The label of a step in plain words, with the contestant that the step trains, if known.

    Labels are stored in event files, so this also translates labels of existing runs.
    """
    if label == "train" and contestant:
        return f"train {contestant}"
    for pattern, replacement in _ROUND_LABELS:
        label = pattern.sub(replacement, label)
    return _WHOLE_LABELS.get(label, label)


def sharing(arms: Sequence[str]) -> list[str]:
    """Whose step it is: the only arm, or `shared by 2 arms`; empty if no arm needs it."""
    if len(arms) > 1:
        return [f"shared by {len(arms)} arms"]
    return list(arms)
