"""The charts of the run screen: measurements by round, and training curves."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from tickdsl.results.standings import Standing
from tickdsl.results.state import EpochMetrics, StepState

from .braille_chart import Axis, ChartData, Curve, Point
from .glyphs import Palette, arm_marker
from .snapshot import Snapshot

METRICS = ("accuracy / weights left", "accuracy / MACs", "test loss / weights left", "training loss", "learning rate")
_MAX_CURVES = 12  # more curves could not be told apart


def metric_chart(
    snapshot: Snapshot, metric: int, log: bool, controls: bool, palette: Palette, selected_steps: Collection[str]
) -> ChartData:
    """The chart of METRICS[metric] for the arms that match the filter; running arms first if there are many.

    `log` makes the density, MACs or loss logarithmic; `controls` includes the controls. Training curves are those of
    `selected_steps`, else of the running steps, else of the last one; they replace the first metric until there are
    measurements.
    """
    if metric >= 3:
        return _training_chart(snapshot, metric, log, palette, selected_steps)
    over_macs = metric == 1
    x = Axis("MACs", log=log, falling=True) if over_macs else Axis("% of weights left", log, True, percent=True)
    loss = metric == 2
    y = Axis("loss") if loss else Axis("accuracy %", percent=True)
    x_of: Callable[[Standing], float | None] = (lambda s: s.macs) if over_macs else (lambda s: s.density)
    y_of: Callable[[Standing], tuple[float, float] | None] = _loss if loss else _accuracy
    running = {arm for step in snapshot.state.steps.values() if step.status == "running" for arm in step.info.arms}
    arms = sorted(
        (a.id for a in snapshot.state.arms if snapshot.matches_filter(a.id)), key=lambda arm: arm not in running
    )
    shown_arms = sorted(arms[:_MAX_CURVES], key=lambda arm: snapshot.arm_indices[arm])
    curves = []
    for arm in shown_arms:
        arm_index = snapshot.arm_indices[arm]
        dense = snapshot.standings.get((arm, "dense", 0))
        for name in ("ticket", *(c for c in snapshot.state.contestants if controls and c not in ("ticket", "dense"))):
            standings = snapshot.standings_by_round.get((arm, name), ())
            points = _points((dense, *standings) if dense and name == "ticket" else standings, x_of, y_of)
            if points:
                label = arm if name == "ticket" else f"{name} ({arm})"
                marker = arm_marker(arm_index) if name == "ticket" else ""
                curves.append(Curve(label, points, palette.arm(arm_index), marker, faint=name != "ticket"))
    more = f" · {_MAX_CURVES} of {len(arms)} arms" if len(arms) > _MAX_CURVES else ""
    if not curves and metric == 0 and _trainings(snapshot, selected_steps):
        return _training_chart(
            snapshot, METRICS.index("training loss"), log=False, palette=palette, selected_steps=selected_steps
        )
    dense_level = _dense_level(snapshot, shown_arms, y_of)
    return ChartData(METRICS[metric] + more, x, y, tuple(curves), dense_level, "dense", "no measurements yet")


def _training_chart(
    snapshot: Snapshot, metric: int, log: bool, palette: Palette, selected_steps: Collection[str]
) -> ChartData:
    shown = _trainings(snapshot, selected_steps)
    title = METRICS[metric]
    y = Axis("loss", log) if metric == 3 else Axis("learning rate", log)
    curves = []
    for n, step in enumerate(shown[:_MAX_CURVES]):
        values: list[tuple[EpochMetrics, float | None]] = [
            (point, point.loss if metric == 3 else point.lr) for point in step.history
        ]
        points = tuple(Point(point.epoch, value) for point, value in values if value is not None)
        arm = step.info.arms[0] if step.info.arms else ""
        level = snapshot.outline.levels.get(step.info.id, 0)
        seed = snapshot.outline.seeds.get(step.info.id, 0)
        round_text = f"round {level} " if level else ""
        label = (
            f"{arm} {round_text}seed {seed}"
            if len(shown) > 1
            else f"{snapshot.outline.label(step.info)}, {arm} {round_text}seed {seed}"
        )
        curves.append(Curve(label, points, palette.arm(n), arm_marker(n) if len(points) == 1 else ""))
    return ChartData(title, Axis("epoch", integer=True), y, tuple(curves), empty_text="no training progress yet")


def _trainings(snapshot: Snapshot, selected_steps: Collection[str]) -> list[StepState]:
    steps = snapshot.state.steps
    wanted = [steps[name] for name in selected_steps if name in steps and steps[name].history]
    if wanted:
        return wanted
    running = [step for step in steps.values() if step.status == "running" and step.history]
    if running:
        return running
    with_history = [step for step in steps.values() if step.history]
    return [max(with_history, key=lambda step: step.ended or step.started or 0.0)] if with_history else []


def _points(
    standings: Sequence[Standing],
    x_of: Callable[[Standing], float | None],
    y_of: Callable[[Standing], tuple[float, float] | None],
) -> tuple[Point, ...]:
    points = []
    for standing in standings:
        x, y = x_of(standing), y_of(standing)
        if x is not None and y is not None:
            points.append(Point(x, *y))
    return tuple(points)


def _accuracy(standing: Standing) -> tuple[float, float] | None:
    estimate = standing.accuracy
    return None if estimate is None else (estimate.mean, estimate.half_width or 0.0)


def _loss(standing: Standing) -> tuple[float, float] | None:
    return None if standing.loss is None else (standing.loss, 0.0)


def _dense_level(
    snapshot: Snapshot, arms: Sequence[str], y_of: Callable[[Standing], tuple[float, float] | None]
) -> float | None:
    """The y value of the dense network, if it is the same for all arms."""
    values = {y_of(s) for arm in arms if (s := snapshot.standings.get((arm, "dense", 0))) is not None}
    values.discard(None)
    value = next(iter(values)) if len(values) == 1 else None
    return value[0] if value else None
