"""The charts of the run screen: measurements by round, and training curves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence

from tickdsl.results.scores import description, heading
from tickdsl.results.standings import Standing
from tickdsl.results.state import EpochMetrics, StepState

from .braille_chart import Axis, ChartData, Curve, Point
from .formatting import half_width, is_complete
from .glyphs import CONTROL_MARKERS, Palette, arm_marker, hollow_marker
from .snapshot import Snapshot

METRICS = (
    "{} / weights left", "{} / MACs", "test loss / weights left",
    "training loss", "learning rate", "factor of the penalty",
)  # fmt: skip
#: The training curves among them: the name of the vertical axis, and the value after an epoch.
_CURVES: dict[int, tuple[str, Callable[[EpochMetrics], float | None]]] = {
    3: ("loss", lambda point: point.loss),
    4: ("learning rate", lambda point: point.lr),
    5: ("factor", lambda point: point.penalty),
}
YOf = Callable[[Standing], tuple[float, float, bool] | None]  # value, half interval, whether seeds are missing
_MAX_CURVES = 12  # more curves could not be told apart


def metric_chart(
    snapshot: Snapshot, metric: int, log: bool, controls: bool, palette: Palette, selected_steps: Collection[str]
) -> ChartData:
    """The chart of METRICS[metric] for the arms that match the filter; running arms first if there are many.

    Of arms with several metrics, those with the metric of the first one; "{}" stands for its name.
    `log` makes the density, MACs or loss logarithmic; `controls` includes the controls. Training curves are those of
    `selected_steps`, else of the running steps, else of the last one; they replace the first metric until there are
    measurements.
    """
    if metric in _CURVES:
        return _training_chart(snapshot, metric, log, palette, selected_steps)
    over_macs = metric == 1
    x = Axis("MACs", log=log, falling=True) if over_macs else Axis("% of weights left", log, True, percent=True)
    loss = metric == 2
    score, matching, left_out = snapshot.arms_of_one_metric
    if loss:
        matching, left_out = [arm.id for arm in snapshot.state.arms if snapshot.matches_filter(arm.id)], ""
    y = Axis("loss") if loss else Axis(heading(score), percent=score.is_share)
    x_of: Callable[[Standing], float | None] = (lambda s: s.macs) if over_macs else (lambda s: s.density)
    y_of: YOf = _loss if loss else _score
    running = {arm for step in snapshot.state.steps.values() if step.status == "running" for arm in step.info.arms}
    arms = sorted(matching, key=lambda arm: arm not in running)
    shown_arms = sorted(arms[:_MAX_CURVES], key=lambda arm: snapshot.arm_indices[arm])
    curves = []
    for arm in shown_arms:
        arm_index = snapshot.arm_indices[arm]
        dense = snapshot.standings.get((arm, "dense", 0))
        name = snapshot.arm_name(arm)
        controls_shown = [c for c in snapshot.state.contestants if controls and c not in ("ticket", "dense")]
        for n, contestant in enumerate(("ticket", *controls_shown)):
            standings = snapshot.standings_by_round.get((arm, contestant), ())
            points = _points((dense, *standings) if dense and not n else standings, x_of, y_of)
            if not points:
                continue
            if n:
                marker = CONTROL_MARKERS[(n - 1) % len(CONTROL_MARKERS)]
                curves.append(
                    Curve(f"{contestant} ({name})", points, palette.arm(arm_index), marker, faint=True, dashed=True)
                )
            else:
                marker, hollow = arm_marker(arm_index), hollow_marker(arm_index)
                curves.append(Curve(name, points, palette.arm(arm_index), marker, hollow_marker=hollow))
    more = f" · {_MAX_CURVES} of {len(arms)} arms" if len(arms) > _MAX_CURVES else ""
    if not curves and metric == 0 and _trainings(snapshot, selected_steps):
        return _training_chart(
            snapshot, METRICS.index("training loss"), log=False, palette=palette, selected_steps=selected_steps
        )
    dense_level = _dense_level(snapshot, shown_arms, y_of)
    return ChartData(
        METRICS[metric].format(description(score)) + more + left_out + _seeds_so_far(curves, snapshot),
        x,
        y,
        tuple(curves),
        dense_level,
        "dense",
        "no measurements yet",
    )


def _training_chart(
    snapshot: Snapshot, metric: int, log: bool, palette: Palette, selected_steps: Collection[str]
) -> ChartData:
    shown = _trainings(snapshot, selected_steps)
    title = METRICS[metric]
    name, value_of = _CURVES[metric]
    y = Axis(name, log)
    curves = []
    labels = _training_labels(snapshot, shown[:_MAX_CURVES])
    for n, step in enumerate(shown[:_MAX_CURVES]):
        values = [(point.epoch, value_of(point)) for point in step.history]
        points = tuple(Point(epoch, value) for epoch, value in values if value is not None)
        label = labels[step.info.id]
        curves.append(Curve(label, points, palette.arm(n), arm_marker(n) if len(points) == 1 else ""))
    return ChartData(title, Axis("epoch", integer=True), y, tuple(curves), empty_text="no training progress yet")


def _training_labels(snapshot: Snapshot, steps: Sequence[StepState]) -> dict[str, str]:
    """A distinct label for each training: what they differ in, in full for a single one."""
    parts = {}
    for step in steps:
        info = step.info
        level, seed = snapshot.outline.levels.get(info.id, 0), snapshot.outline.seeds.get(info.id, 0)
        arm = snapshot.arm_name(info.arms[0]) if len(info.arms) == 1 else f"{len(info.arms)} arms"
        what = snapshot.outline.label(info)
        parts[info.id] = (arm if info.arms else "", what, f"round {level}" if level else "", f"seed {seed}")
    differing = [n for n in range(4) if len({part[n] for part in parts.values()}) > 1 or len(parts) == 1]
    labels = {}
    for name, part in parts.items():
        shown = [part[n] for n in differing if part[n]]
        labels[name] = ", ".join(text for n, text in enumerate(shown) if not any(text in other for other in shown[:n]))
    uses = Counter(labels.values())
    return {name: label if uses[label] == 1 and label else f"{label} {name}".strip() for name, label in labels.items()}


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
    y_of: YOf,
) -> tuple[Point, ...]:
    points = []
    for standing in standings:
        x, y = x_of(standing), y_of(standing)
        if x is not None and y is not None:
            points.append(Point(x, *y))
    return tuple(points)


def _score(standing: Standing) -> tuple[float, float, bool] | None:
    estimate, seeds = standing.score, standing.of_seeds
    return None if estimate is None else (estimate.mean, half_width(estimate, seeds), not is_complete(estimate, seeds))


def _loss(standing: Standing) -> tuple[float, float, bool] | None:
    return None if standing.loss is None else (standing.loss, 0.0, standing.n < standing.of_seeds)


def available_metrics(snapshot: Snapshot) -> list[int]:
    """The indices of METRICS that can be shown: those that differ between the measured networks, or were measured.

    The score and training loss are always available.
    """
    standings = snapshot.standings.values()
    macs = {standing.macs for standing in standings if standing.macs is not None}
    steps = snapshot.state.steps.values()
    rates = {point.lr for step in steps for point in step.history if point.lr is not None}
    penalised = any(point.penalty is not None for step in steps for point in step.history)
    available = [0]
    available += [1] if len(macs) > 1 else []
    available += [2] if any(standing.loss is not None for standing in standings) else []
    return [*available, 3, *([4] if len(rates) > 1 else []), *([5] if penalised else [])]


def _seeds_so_far(curves: Sequence[Curve], snapshot: Snapshot) -> str:
    """How many seeds the points that are not final have: ` · 2/5 seeds`."""
    if not any(point.hollow for curve in curves for point in curve.points):
        return ""
    tickets = [s for s in snapshot.standings.values() if s.contestant in ("ticket", "dense") and 0 < s.n < s.of_seeds]
    numbers = sorted({standing.n for standing in tickets})
    if not numbers:
        return ""
    low, high = numbers[0], numbers[-1]
    return f" · hollow: {low if low == high else f'{low}–{high}'}/{tickets[0].of_seeds} seeds"


def _dense_level(snapshot: Snapshot, arms: Sequence[str], y_of: YOf) -> float | None:
    """The y value of the dense network, if it is the same for all arms."""
    values = {y_of(s) for arm in arms if (s := snapshot.standings.get((arm, "dense", 0))) is not None}
    values.discard(None)
    value = next(iter(values)) if len(values) == 1 else None
    return value[0] if value else None
