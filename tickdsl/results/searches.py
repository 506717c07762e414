"""The searches of a run: how many networks they evaluated, how many of these results were stored, what they found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from tickdsl.plurals import plural
from tickdsl.results.state import RunState


@attrs.frozen
class Search:
    """A search that has ended: its step, what it served, and its evaluations.

    `reused` of them were stored before. `score`: the primary metric on validation data of the candidate that it chose,
    `local` and `global_`: of those of other scopes at the same amount, before any further training.
    """

    step: str
    arms: tuple[str, ...]
    seed: int | None
    label: str
    evaluations: int
    reused: int
    score: float | None
    local: float | None
    global_: float | None


def searches(state: RunState) -> list[Search]:
    """The searches that have ended, in the order of the plan's steps."""
    return [
        Search(
            step.info.id,
            step.info.arms,
            step.info.seed,
            step.info.label,
            int(step.metrics["search_evaluations"]),
            int(step.metrics.get("search_reused", 0)),
            *(_number(step.metrics, name) for name in ("search_score", "search_local", "search_global")),
        )
        for step in state.steps.values()
        if "search_evaluations" in step.metrics
    ]


def search_text(progress: tuple[int, int]) -> str:
    """The progress of a search: `search: 23/60`."""
    return "search: {}/{}".format(*progress)


def search_summary(evaluations: int, reused: int) -> str:
    """How many evaluations a search took: `64 evaluations, 49 of them stored before`."""
    return plural(evaluations, "evaluation") + (f", {reused:,} of them stored before" if reused else "")


def _number(metrics: Mapping[str, Any], name: str) -> float | None:
    value = metrics.get(name)
    return float(value) if isinstance(value, int | float) else None
