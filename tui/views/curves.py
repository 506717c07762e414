"""The charts of the run: what was measured over rounds, and the course of trainings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from tickdsl.results.state import CoursePoint, StepState
from tickdsl.results.verdict import Standing

from .drawing import Axis, Curve, Picture, Point
from .glance import Glance
from .marks import Palette, marker

METRICS = ("accuracy / weights left", "accuracy / MACs", "test loss / weights left", "training loss", "learning rate")
_MOST = 12  # curves in one chart; more cannot be told apart


def picture(glance: Glance, metric: int, log: bool, rivals: bool, palette: Palette, chosen: Collection[str]) -> Picture:
    """The chart of METRICS[metric] for the arms that the filter wants; of many those that run come first.

    `log` makes the share of the weights, the MACs or the loss logarithmic; `rivals` draws those too. The training's
    course is that of the steps `chosen`, or of those that run, or of the last; it stands in for the first metric until
    something is measured.
    """
    if metric >= 3:
        return _course(glance, metric, log, palette, chosen)
    over_macs = metric == 1
    x = Axis("MACs", log=log, falling=True) if over_macs else Axis("% of weights left", log, True, percent=True)
    loss = metric == 2
    y = Axis("loss") if loss else Axis("accuracy %", percent=True)
    across: Callable[[Standing], float | None] = (lambda s: s.macs) if over_macs else (lambda s: s.left)
    up: Callable[[Standing], tuple[float, float] | None] = _loss if loss else _accuracy
    running = {arm for step in glance.state.steps.values() if step.status == "running" for arm in step.info.arms}
    arms = sorted((a.id for a in glance.state.arms if glance.wants(a.id)), key=lambda arm: arm not in running)
    some = sorted(arms[:_MOST], key=lambda arm: glance.places[arm])
    curves = []
    for arm in some:
        place = glance.places[arm]
        dense = glance.standings.get((arm, "dense", 0))
        for name in ("ticket", *(c for c in glance.state.contestants if rivals and c not in ("ticket", "dense"))):
            found = glance.rounds.get((arm, name), ())
            points = _points((dense, *found) if dense and name == "ticket" else found, across, up)
            if points:
                label = arm if name == "ticket" else f"{name} ({arm})"
                sign = marker(place) if name == "ticket" else ""
                curves.append(Curve(label, points, palette.arm(place), sign, faint=name != "ticket"))
    more = f" · {_MOST} of {len(arms)} arms" if len(arms) > _MOST else ""
    if not curves and metric == 0 and _trainings(glance, chosen):
        return _course(glance, METRICS.index("training loss"), log=False, palette=palette, chosen=chosen)
    level = _dense_level(glance, some, up)
    return Picture(METRICS[metric] + more, x, y, tuple(curves), level, "dense", "nothing is measured yet")


def _course(glance: Glance, metric: int, log: bool, palette: Palette, chosen: Collection[str]) -> Picture:
    shown = _trainings(glance, chosen)
    title = METRICS[metric]
    y = Axis("loss", log) if metric == 3 else Axis("learning rate", log)
    curves = []
    for n, step in enumerate(shown[:_MOST]):
        values: list[tuple[CoursePoint, float | None]] = [
            (point, point.loss if metric == 3 else point.lr) for point in step.course
        ]
        points = tuple(Point(point.epoch, value) for point, value in values if value is not None)
        arm = step.info.arms[0] if step.info.arms else ""
        level = glance.outline.levels.get(step.info.id, 0)
        seed = glance.outline.seeds.get(step.info.id, 0)
        where = f"round {level} " if level else ""
        label = f"{arm} {where}seed {seed}" if len(shown) > 1 else f"{step.info.label}, {arm} {where}seed {seed}"
        curves.append(Curve(label, points, palette.arm(n), marker(n) if len(points) == 1 else ""))
    return Picture(title, Axis("epoch", whole=True), y, tuple(curves), empty="no training has told of itself yet")


def _trainings(glance: Glance, chosen: Collection[str]) -> list[StepState]:
    steps = glance.state.steps
    wanted = [steps[name] for name in chosen if name in steps and steps[name].course]
    if wanted:
        return wanted
    running = [step for step in steps.values() if step.status == "running" and step.course]
    if running:
        return running
    told = [step for step in steps.values() if step.course]
    return [max(told, key=lambda step: step.ended or step.started or 0.0)] if told else []


def _points(
    found: Sequence[Standing],
    across: Callable[[Standing], float | None],
    up: Callable[[Standing], tuple[float, float] | None],
) -> tuple[Point, ...]:
    points = []
    for standing in found:
        x, y = across(standing), up(standing)
        if x is not None and y is not None:
            points.append(Point(x, *y))
    return tuple(points)


def _accuracy(standing: Standing) -> tuple[float, float] | None:
    found = standing.accuracy
    return None if found is None else (found.mean, found.half_width or 0.0)


def _loss(standing: Standing) -> tuple[float, float] | None:
    return None if standing.loss is None else (standing.loss, 0.0)


def _dense_level(
    glance: Glance, arms: Sequence[str], up: Callable[[Standing], tuple[float, float] | None]
) -> float | None:
    """Where dense stands, if it stands at the same place for all arms."""
    found = {up(s) for arm in arms if (s := glance.standings.get((arm, "dense", 0))) is not None}
    found.discard(None)
    only = next(iter(found)) if len(found) == 1 else None
    return only[0] if only else None
