"""What `report` asked for beside accuracy: means over the seeds, how they came about, and how they are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import attrs

from tickdsl.results.state import RunState
from tickdsl.results.verdict import Estimate, estimate

MEASURED, ESTIMATED = "measured", "estimated"

Key = tuple[str, str, int]  # arm id, contestant, level


@attrs.frozen
class Figure:
    """A figure over the seeds; `how` is `measured`, or `estimated` where it is so for any seed."""

    value: Estimate
    how: str


class Column(NamedTuple):
    """How a metric is shown: the figure of that name, its heading, and its values in words."""

    figure: str
    heading: str
    said: Callable[[float], str]


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


#: metric of `report` -> its columns in a table.
COLUMNS: dict[str, tuple[Column, ...]] = {
    "robustness": (
        Column("robustness", "corrupted\n%", _percent),
        Column("robustness.fgsm", "FGSM\n%", _percent),
        Column("robustness.pgd", "PGD\n%", _percent),
        Column("robustness.cifar-10-c", "CIFAR-10-C\n%", _percent),
        Column("robustness.cifar-10.2", "CIFAR-10.2\n%", _percent),
    ),
}


def figures(state: RunState) -> dict[Key, dict[str, Figure]]:
    """All figures by (arm id, contestant, level) and name."""
    values: dict[Key, dict[str, dict[int, float]]] = {}
    guessed: set[tuple[Key, str]] = set()
    for ((arm, contestant, level, seed), _), measure in state.measures.items():
        key = (arm, contestant, level)
        for name, value in measure.figures.items():
            if isinstance(value, int | float):
                values.setdefault(key, {}).setdefault(name, {})[seed] = value
                if measure.how == ESTIMATED:
                    guessed.add((key, name))
    return {
        key: {
            name: Figure(found, ESTIMATED if (key, name) in guessed else MEASURED)
            for name, seeds in named.items()
            if (found := estimate([seeds[seed] for seed in sorted(seeds)])) is not None
        }
        for key, named in values.items()
    }


def columns(found: Mapping[Key, Mapping[str, Figure]]) -> list[Column]:
    """The columns that have anything in them."""
    there = {name for named in found.values() for name in named}
    return [column for metric in COLUMNS.values() for column in metric if column.figure in there]


def said(column: Column, found: Mapping[str, Figure]) -> str:
    """A cell: the mean over the seeds, with `~` before what is estimated."""
    figure = found.get(column.figure)
    if figure is None:
        return ""
    return ("~" if figure.how == ESTIMATED else "") + column.said(figure.value.mean)
