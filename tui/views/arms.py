"""The list of arms: progress, latest ticket and remaining time of each."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import attrs
from rich.text import Text

from tickdsl.records.events import ArmInfo, MetricInfo
from tickdsl.results.formatting import format_duration, percent
from tickdsl.results.scores import ACCURACY
from tickdsl.results.standings import LOSING, WINNING, Standing
from tickdsl.results.state import FINISHED_STATUSES, StepState

from .formatting import score, score_heading
from .glyphs import Palette, arm_marker, bar
from .snapshot import Snapshot
from .text_cells import align_right, fit, fit_middle, styled_line
from .tree import group_status


@attrs.frozen
class ArmRow:
    """An arm with its short `name`: `share` of its work is done, `newest` its last measured ticket; `eta` in s."""

    id: str
    name: str
    arm_index: int
    status: str
    share: float
    done: int
    total: int
    level: int
    levels: int
    newest: Standing | None
    dense: Standing | None
    eta: float | None
    seeds: int


def arm_rows(snapshot: Snapshot) -> list[ArmRow]:
    """A row for each arm that matches the filter, in plan order."""
    state = snapshot.state
    eta = state.eta if snapshot.is_live else None
    remaining_work = _remaining_work(state.steps.values())
    pace = None if eta is None else (eta / remaining_work if remaining_work else 0.0)
    return [_row(snapshot, arm, pace) for arm in state.arms if snapshot.matches_filter(arm.id)]


def heading(width: int, metrics: Collection[MetricInfo] = (ACCURACY,)) -> str:
    """The heading of `arm_line` in `width` cells; metrics: what the arms are compared by."""
    layout = _layout(width)
    parts = ["  " + fit("arm", layout.name), fit("", layout.bar), align_right("steps", 8), align_right("round", 6)]
    parts += [align_right(score_heading(metrics), layout.score), align_right("weights", 8)]
    parts += [align_right("ETA", 8)] if layout.time else []
    parts += ["  " + fit("verdict", 9)] if layout.verdict else []
    return fit(" ".join(part for part in parts if part), width)


def arm_line(row: ArmRow, width: int, palette: Palette) -> Text:
    """A row in `width` cells; the least important columns are left out if they do not fit."""
    layout, colour = _layout(width), palette.arm(row.arm_index)
    newest = row.newest or row.dense
    verdict = (row.newest.verdict if row.newest else None) or ""
    share = f"{row.level}/{row.levels}" if row.levels else ""
    parts = [(f"{arm_marker(row.arm_index)} ", colour), (fit_middle(row.name, layout.name), "bold")]
    if layout.bar:
        parts += [(" " + bar(row.share, layout.bar), f"{colour} on {palette.rule}")]
    parts += [
        (align_right(f"{row.done}/{row.total}", 9), ""),
        (align_right(share, 7), ""),
        (
            " " + align_right(score(newest, layout.interval, row.seeds), layout.score),
            "",
        ),
        (align_right(percent(newest.density) if newest else "–", 9), ""),
    ]
    if layout.time:
        parts.append((align_right("–" if row.eta is None else format_duration(row.eta), 9), palette.dim))
    if layout.verdict:
        colours = {WINNING: palette.good, LOSING: palette.bad}
        parts.append(("   " + fit(verdict, 9), colours.get(verdict, palette.unsure)))
    line = styled_line(*parts)
    if layout.bar:  # the gap before the bar has no background
        start = 2 + layout.name
        line.stylize(f"on {palette.ground}", start, start + 1)
    line.truncate(width)
    return line


@attrs.frozen
class _Layout:
    name: int
    bar: int
    score: int
    interval: bool
    time: bool
    verdict: bool


def _layout(width: int) -> _Layout:
    """The columns that fit in `width` cells; the name takes the rest."""
    interval, time, verdict = width >= 62, width >= 54, width >= 84
    score = 15 if interval else 10
    fixed = 2 + 9 + 7 + 1 + score + 9 + (9 if time else 0) + (12 if verdict else 0)
    rest = max(4, width - fixed)
    bar = max(rest - 40, min(8, rest - 15)) if rest >= 22 else 0
    return _Layout(rest - (bar + 1 if bar else 0), bar, score, interval, time, verdict)


def _row(snapshot: Snapshot, arm: ArmInfo, pace: float | None) -> ArmRow:
    state = snapshot.state
    steps = [state.steps[name] for name in snapshot.outline.steps((arm.id,))]
    counted = [step for step in steps if step.status != "skipped"]
    done = sum(step.status in FINISHED_STATUSES for step in counted)
    newest = next(reversed(snapshot.standings_by_round.get((arm.id, "ticket"), ())), None)
    return ArmRow(
        id=arm.id,
        name=snapshot.arm_name(arm.id),
        arm_index=snapshot.arm_indices[arm.id],
        status=group_status(steps, snapshot.status),
        share=_share(counted),
        done=done,
        total=len(counted),
        level=newest.level if newest else 0,
        levels=arm.levels,
        newest=newest,
        dense=snapshot.standings.get((arm.id, "dense", 0)),
        eta=None if pace is None else pace * _remaining_work(counted),
        seeds=len(state.seeds),
    )


def _share(steps: list[StepState]) -> float:
    """The share of the epochs that are done; of the steps if there are no epochs."""
    epochs = sum(step.planned_epochs for step in steps)
    if epochs:
        return 1.0 - sum(step.remaining_epochs for step in steps) / epochs
    return sum(step.status in FINISHED_STATUSES for step in steps) / len(steps) if steps else 0.0


def _remaining_work(steps: Iterable[StepState]) -> float:
    """The remaining epochs; if there are none, a tiny amount per remaining step.

    Steps shared by several arms count for each of them.
    """
    waiting = [step for step in steps if step.status in ("waiting", "running")]
    return sum(step.remaining_epochs for step in waiting) or 1e-9 * len(waiting)
