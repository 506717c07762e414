"""The arms as rows: how far each is, what its newest ticket came to, how long it still takes."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
from rich.text import Text

from tickdsl.records.events import ArmInfo
from tickdsl.results.state import FINISHED, StepState
from tickdsl.results.verdict import LOSING, WINNING, Standing
from tickdsl.results.words import duration, percent

from .figures import accuracy
from .glance import Glance
from .line import cells, fit, right
from .marks import Palette, bar, marker
from .tree import group_status


@attrs.frozen
class ArmRow:
    """An arm: `share` of its work is done, `rest` seconds of work are left; `newest` is its last measured ticket."""

    id: str
    place: int
    status: str
    share: float
    done: int
    total: int
    level: int
    levels: int
    newest: Standing | None
    dense: Standing | None
    rest: float | None
    seeds: int


def arm_rows(glance: Glance) -> list[ArmRow]:
    """A row per arm that the filter wants, in the order of the plan."""
    state = glance.state
    eta = state.eta
    ahead = _ahead(state.steps.values())
    pace = None if eta is None else (eta / ahead if ahead else 0.0)
    return [_row(glance, arm, pace) for arm in state.arms if glance.wants(arm.id)]


def heading(width: int) -> str:
    """The heading over `arm_line` at that width."""
    shape = _shape(width)
    parts = ["  " + fit("arm", shape.name), fit("", shape.bar), right("steps", 8), right("round", 6)]
    parts += [right("accuracy %", shape.accuracy), right("left", 8)]
    parts += [right("to go", 8)] if shape.time else []
    parts += ["  " + fit("verdict", 9)] if shape.verdict else []
    return fit(" ".join(part for part in parts if part), width)


def arm_line(row: ArmRow, width: int, palette: Palette) -> Text:
    """A row in `width` cells; what does not fit is left out from the least important on."""
    shape, colour = _shape(width), palette.arm(row.place)
    newest = row.newest or row.dense
    verdict = (row.newest.verdict if row.newest else None) or ""
    share = f"{row.level}/{row.levels}" if row.levels else ""
    parts = [(f"{marker(row.place)} ", colour), (fit(row.id, shape.name), "bold")]
    if shape.bar:
        parts += [(" " + bar(row.share, shape.bar), f"{colour} on {palette.rule}")]
    parts += [
        (right(f"{row.done}/{row.total}", 9), ""),
        (right(share, 7), ""),
        (" " + right(accuracy(newest.accuracy if newest else None, shape.interval, row.seeds), shape.accuracy), ""),
        (right(percent(newest.left) if newest else "–", 9), ""),
    ]
    if shape.time:
        parts.append((right("–" if row.rest is None else duration(row.rest), 9), palette.dim))
    if shape.verdict:
        colours = {WINNING: palette.good, LOSING: palette.bad}
        said = verdict if row.status in ("done", "stored") or verdict else ""
        parts.append(("   " + fit(said, 9), colours.get(verdict, palette.unsure)))
    line = cells(*parts)
    if shape.bar:  # the gap before the bar is no part of it
        start = 2 + shape.name
        line.stylize(f"on {palette.ground}", start, start + 1)
    line.truncate(width)
    return line


@attrs.frozen
class _Shape:
    name: int
    bar: int
    accuracy: int
    interval: bool
    time: bool
    verdict: bool


def _shape(width: int) -> _Shape:
    """Which columns fit into `width` cells; the name takes what is left."""
    interval, time, verdict = width >= 62, width >= 54, width >= 84
    accuracy = 14 if interval else 10
    fixed = 2 + 9 + 7 + 1 + accuracy + 9 + (9 if time else 0) + (12 if verdict else 0)
    rest = max(4, width - fixed)
    bar = min(24, rest - 15) if rest >= 22 else 0
    return _Shape(rest - (bar + 1 if bar else 0), bar, accuracy, interval, time, verdict)


def _row(glance: Glance, arm: ArmInfo, pace: float | None) -> ArmRow:
    state = glance.state
    steps = [state.steps[name] for name in glance.outline.steps((arm.id,))]
    counted = [step for step in steps if step.status != "skipped"]
    done = sum(step.status in FINISHED for step in counted)
    newest = next(reversed(glance.rounds.get((arm.id, "ticket"), ())), None)
    return ArmRow(
        id=arm.id,
        place=glance.places[arm.id],
        status=group_status(steps, glance.status),
        share=_share(counted),
        done=done,
        total=len(counted),
        level=newest.level if newest else 0,
        levels=arm.levels,
        newest=newest,
        dense=glance.standings.get((arm.id, "dense", 0)),
        rest=None if pace is None else pace * _ahead(counted),
        seeds=len(state.seeds),
    )


def _share(steps: list[StepState]) -> float:
    """The share of the work that is done: of the epochs, or of the steps where nothing counts in epochs."""
    epochs = sum(step.info.epochs or 0.0 for step in steps)
    if epochs:
        return 1.0 - sum(step.remaining for step in steps) / epochs
    return sum(step.status in FINISHED for step in steps) / len(steps) if steps else 0.0


def _ahead(steps: Iterable[StepState]) -> float:
    """The work that is still to be done: epochs, and a little for each step, which is all where none counts epochs.

    Steps that several arms share count in each.
    """
    waiting = [step for step in steps if step.status in ("waiting", "running")]
    return sum(step.remaining for step in waiting) or 1e-9 * len(waiting)
