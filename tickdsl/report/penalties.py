"""The section on trainings with a growing penalty (`via penalty`): its factor and the losses over the epochs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

from tickdsl.plurals import plural
from tickdsl.report.document import Cell, Figure, Panels, Section, Table, Text
from tickdsl.report.source import ReportSource
from tickdsl.results import scores
from tickdsl.results.state import EpochMetrics, RunState, StepState

_MAX_ROWS = 12
#: Of more such trainings, the monitor and TensorBoard have the rest.
_MAX_TRAININGS = 12
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 330, 170, 42, 12, 12, 30


def penalties_section(sources: Sequence[ReportSource]) -> list[Section]:
    """The section in a list; empty if no training of the runs had a growing penalty."""
    parts: list[Panels] = []
    for source in sources:
        prefix = f"{source.name}: " if len(sources) > 1 else ""
        for title, step in _penalised(source.state):
            parts.append(Panels((_figure(prefix + title, step), _table(prefix + title, step, source.state))))
    if not parts:
        return []
    note = "Of the first seed, for trainings of this run; other seeds have the same factors."
    return [Section("penalties", "Growing penalties", (*parts[:_MAX_TRAININGS], Text(note, "note")))]


def _penalised(state: RunState) -> Iterator[tuple[str, StepState]]:
    """The trainings with a growing penalty of the first seed that has any, with their titles."""
    steps = [step for step in state.steps.values() if any(point.penalty is not None for point in step.history)]
    first_seed = min((step.info.seed or 0 for step in steps), default=0)
    numbers: Counter[str] = Counter()
    for step in (step for step in steps if (step.info.seed or 0) == first_seed):
        arms = " and ".join(step.info.arms)
        numbers[arms] += 1
        yield f"{arms}, training {numbers[arms]} with a penalty", step


def _table(title: str, step: StepState, state: RunState) -> Table:
    metric = state.step_metric(step)
    rows = [
        (
            Cell(f"{point.epoch:g}"),
            Cell("–" if point.penalty is None else f"{point.penalty:.4g}"),
            Cell("–" if point.loss is None else f"{point.loss:.4f}"),
            Cell("–" if point.score is None else scores.number(metric, point.score)),
        )
        for point in _thinned(step.history)
    ]
    columns = ("epoch", "factor", "training loss", scores.heading(metric))
    return Table(title, columns, tuple(rows))


def _thinned(history: Sequence[EpochMetrics]) -> list[EpochMetrics]:
    """At most `_MAX_ROWS` epochs, evenly spaced, the last one among them."""
    count = min(_MAX_ROWS, len(history))
    places = dict.fromkeys(round((n + 1) * len(history) / count) - 1 for n in range(count))
    return [history[place] for place in places]


def _figure(title: str, step: StepState) -> Figure:
    highest = max(point.penalty or 0.0 for point in step.history)
    description = f"The factor of the penalty over {plural(int(step.history[-1].epoch), 'epoch')}, up to {highest:.4g}."
    return Figure(title, description, partial(_drawing, step.history))


def _drawing(history: Sequence[EpochMetrics]) -> str:
    """An SVG drawing of the factor over the epochs."""
    highest = max(point.penalty or 0.0 for point in history) or 1.0
    first, last = 0.0, max(point.epoch for point in history)
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def place(epoch: float, factor: float) -> str:
        x = _LEFT + width * (epoch - first) / (last - first or 1.0)
        return f"{x:.1f},{_TOP + height * (1 - factor / highest):.1f}"

    line = " ".join([place(0.0, 0.0), *(place(point.epoch, point.penalty or 0.0) for point in history)])
    bottom = _TOP + height
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" font-size="12" fill="var(--soft)">'
        f'<path d="M{_LEFT} {_TOP}V{bottom}H{_LEFT + width}" fill="none" stroke="var(--line)"/>'
        f'<polyline points="{line}" fill="none" stroke="var(--arm-1)" stroke-width="2"/>'
        f'<text x="{_LEFT - 6}" y="{_TOP + 8}" text-anchor="end">{highest:.3g}</text>'
        f'<text x="{_LEFT - 6}" y="{bottom}" text-anchor="end">0</text>'
        f'<text x="{_LEFT + width}" y="{_HEIGHT - 12}" text-anchor="end">epoch {last:g}</text>'
        f'<text x="{_LEFT}" y="{_HEIGHT - 12}">factor</text>'
        "</svg>"
    )
