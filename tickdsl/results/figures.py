"""What `report` asked for beside accuracy: means over the seeds, how they came about, and how they are written."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import attrs

from tickdsl.records.events import ESTIMATED, MEASURED
from tickdsl.results import words
from tickdsl.results.state import RunState
from tickdsl.results.verdict import Estimate, estimate

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


_seconds = functools.partial(words.quantity, unit="s")
_bytes = functools.partial(words.quantity, unit="B")

#: metric of `report` -> its columns in a table.
COLUMNS: dict[str, tuple[Column, ...]] = {
    "robustness": (
        Column("robustness", "corrupted\n%", _percent),
        Column("robustness.fgsm", "FGSM\n%", _percent),
        Column("robustness.pgd", "PGD\n%", _percent),
        Column("robustness.cifar-10-c", "CIFAR-10-C\n%", _percent),
        Column("robustness.cifar-10.2", "CIFAR-10.2\n%", _percent),
    ),
    "train-time": (Column("train-time.step", "time of\na step", _seconds),),
    "latency": (
        Column("latency", "latency of\na picture", _seconds),
        Column("latency.batch", "latency of\na batch", _seconds),
    ),
    "memory": (
        Column("memory", "memory,\na batch", _bytes),
        Column("memory.training", "memory,\na step", _bytes),
    ),
    "energy": (Column("energy", "energy of\ntraining", functools.partial(words.quantity, unit="J")),),
    "carbon": (Column("carbon", "CO2 of\ntraining", functools.partial(words.quantity, unit="g")),),
    "early-stop": (
        Column("early-stop", "early stop\nepoch", lambda epoch: f"{epoch:.1f}".removesuffix(".0")),
        Column("early-stop.accuracy", "accuracy\nthere, %", _percent),
    ),
    "barrier": (Column("barrier", "barrier\npoints", _percent),),
}


#: Metrics whose figures hang on the machine that did the work.
_OF_A_MACHINE = ("train-time", "latency", "memory", "energy", "carbon")


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
    there = {name: None for named in found.values() for name in named}
    known = [column for metric in COLUMNS.values() for column in metric if column.figure in there]
    return [*known, *(_own(name) for name in there if not any(_told(name, metric) for metric in COLUMNS))]


def _told(figure: str, metric: str) -> bool:
    """Whether a figure is a metric's own, or one of its details."""
    return figure == metric or figure.startswith(f"{metric}.")


def _own(figure: str) -> Column:
    """What users measure: named as they do, without the package that it comes from."""
    return Column(figure, figure.rpartition(":")[2], lambda value: f"{value:.4g}")


def said(column: Column, found: Mapping[str, Figure]) -> str:
    """A cell: the mean over the seeds, with `~` before what is estimated."""
    figure = found.get(column.figure)
    if figure is None:
        return ""
    return ("~" if figure.how == ESTIMATED else "") + column.said(figure.value.mean)


def machines(state: RunState) -> list[str]:
    """What must be known of figures that hang on the machine: those that several machines measured."""
    hosts: dict[str, set[str]] = {}
    for (_, metric), measure in state.measures.items():
        if metric in _OF_A_MACHINE and measure.host:
            hosts.setdefault(metric, set()).add(measure.host)
    said: dict[tuple[str, ...], list[str]] = {}
    for metric, found in hosts.items():
        if len(found) > 1:
            said.setdefault(tuple(sorted(found)), []).append(metric)
    return [f"{', '.join(them)}: figures of {len(found)} machines, {', '.join(found)}" for found, them in said.items()]


def remark(found: Mapping[Key, Mapping[str, Figure]]) -> str:
    """How the estimated ones came about: `~ estimated: energy at 65 W, CO2 at 480 g/kWh`; empty without any."""
    guessed = [(name, f) for named in found.values() for name, f in named.items() if f.how == ESTIMATED]
    if not guessed:
        return ""
    parts = []
    for figure, form in (("energy.watts", "energy at {} W"), ("carbon.intensity", "CO2 at {} g/kWh")):
        values = [round(f.value.mean, 1) for name, f in guessed if name == figure]
        if values:
            ends = dict.fromkeys((min(values), max(values)))
            parts.append(form.format("–".join(f"{value:g}" for value in ends)))
    return "~ estimated" + (f": {', '.join(parts)}" if parts else "")
