"""The lines of the plan, with the running statements marked."""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

from .snapshot import Snapshot

_ARM_PATTERN = re.compile(r"\s*arm\s+([\w.-]+)")
# Operation of a step -> the keywords of the statements that create such steps.
_STATEMENT_KEYWORDS = {
    "train": ("rewind", "retrain", "evolve", "train", "judge"),
    "prune": ("prune",),
    "overlap": ("overlap",),
    "recalibrate": ("recalibrate",),
    "grow": ("grow",),
    "refill": ("refill",),
    "regroup": ("regroup",),
    "mix": ("rewind",),
    "perturb": ("perturb",),
    "align": ("rewind",),
    "mask": ("rewind",),
    "init": ("split", "model"),
    "random-structure": ("compare",),
    "elastic": ("stretch", "squeeze"),
    "evaluate": ("report",),
}


@attrs.frozen
class PlanLine:
    """A source line; `arm_indices` are the plan indices of the arms that are running it."""

    number: int
    text: str
    arm_indices: tuple[int, ...] = ()


def plan_lines(text: str, snapshot: Snapshot) -> list[PlanLine]:
    """The lines of the plan, with the statements of running steps marked.

    The mark is at the line in the arm's block that names the running operation, or at the first line of the block.
    """
    source = text.splitlines()
    blocks = _arm_blocks(source)
    marks: dict[int, set[int]] = {}
    for step in snapshot.state.steps.values():
        if step.status != "running" or not snapshot.is_live:
            continue
        for arm in step.info.arms:
            name = next((info.name for info in snapshot.state.arms if info.id == arm), arm)
            for n in _statement_lines(step.info.operation, step.info.label, name, source, blocks):
                marks.setdefault(n, set()).add(snapshot.arm_indices.get(arm, 0))
    return [PlanLine(n + 1, line, tuple(sorted(marks.get(n, ())))) for n, line in enumerate(source)]


def _statement_lines(
    operation: str, label: str, arm: str, source: list[str], blocks: Mapping[str, tuple[int, int]]
) -> list[int]:
    dense = label.startswith("dense") or (operation == "init" and "random" not in label)
    if dense:
        top = _find_line(source, 0, len(source), ("train",) if operation == "train" else ("model",), top=True)
        if top is not None:
            return [top]
    if arm not in blocks:
        return []
    first, last = blocks[arm]
    if first == last:
        return [first]
    # A prune that takes place in a training is that training's statement.
    words = ("prune",) if "prune" in label or "penalty" in label else _STATEMENT_KEYWORDS.get(operation, ())
    line = _find_line(source, first, last + 1, words, top=False)
    return [first if line is None else line]


def _find_line(source: list[str], start: int, end: int, words: tuple[str, ...], top: bool) -> int | None:
    for word in words:
        pattern = re.compile(rf"{word}\b" if top else rf"(?:.*[{{;\s])?{word}\b")
        for n in range(start, end):
            if pattern.match(source[n].split("#")[0]):
                return n
    return None


def _arm_blocks(source: list[str]) -> dict[str, tuple[int, int]]:
    """The first and last line of each arm's block."""
    blocks: dict[str, tuple[int, int]] = {}
    for n, line in enumerate(source):
        match = _ARM_PATTERN.match(line.split("#")[0])
        if match and match[1] not in blocks:
            depth, end = 0, n
            for end in range(n, len(source)):
                code = source[end].split("#")[0]
                depth += code.count("{") - code.count("}")
                if depth <= 0 and ("{" in code or end > n):
                    break
            blocks[match[1]] = (n, end)
    return blocks
