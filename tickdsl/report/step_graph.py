"""The steps section: a drawing of the step graph with a lane per arm and a box per round.

A box counts the steps of all seeds and data parts by operation, so that hundreds of steps stay readable. Steps shared
between arms are in the top lane.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape

import attrs

from tickdsl.plurals import plural
from tickdsl.report.arm_symbols import accessible_title
from tickdsl.report.document import Details, Figure, Part, Section, Text
from tickdsl.report.source import ReportSource
from tickdsl.results.standings import compute_standings
from tickdsl.results.state import RunState
from tickdsl.results.step_usage import first_uses
from tickdsl.results.top_arms import top_arms

_OPERATION_STYLES = {  # Okabe and Ito colour, letter
    "init": ("#E69F00", "I"),
    "train": ("#0072B2", "T"),
    "prune": ("#D55E00", "P"),
    "grow": ("#F0E442", "G"),
    "refill": ("#F0E442", "C"),
    "regroup": ("#F0E442", "B"),
    "overlap": ("#009E73", "O"),
    "random-structure": ("#CC79A7", "R"),
    "evaluate": ("#56B4E9", "E"),
    "elastic": ("#8c6d31", "S"),
}
_GREY = "#8c959f"
#: Letters of the other steps: capitals for those that measure metrics other than accuracy.
_GREY_LETTERS = {
    "robustness": "A", "latency": "L", "memory": "M", "barrier": "B", "pruned": "D", "fid": "F", "similarity": "S",
    "ensemble": "N", "metric": "Q",
    "align": "a", "candidate": "c", "features": "f", "mask": "k", "mix": "m", "perturb": "p", "recalibrate": "r",
    "ticket": "t", "transfer": "v",
}  # fmt: skip
_CHIP, _BOX, _LANE, _LABEL, _GAP, _TOP = 40, 28, 44, 210, 26, 30

Lane = tuple[str, str]  # arm, control or ""
Place = tuple[Lane, int]  # lane, level

_SHARED: Lane = ("shared", "")


@attrs.define
class _Box:
    """The steps of one lane and level: counts by operation, and how many were skipped or failed."""

    kinds: Counter[str] = attrs.field(factory=Counter)
    idle: int = 0
    failed: int = 0

    @property
    def width(self) -> int:
        return 10 + _CHIP * len(self.kinds)

    @property
    def steps(self) -> int:
        return self.kinds.total()


def steps_section(sources: Sequence[ReportSource]) -> Section:
    """A drawing for each run; with many arms, of those with the smallest winning tickets."""
    parts: list[Part] = []
    for number, source in enumerate(sources):
        if source.state.steps:
            figure = _figure(source.state, f"steps-{number}", source.name if len(sources) > 1 else "")
            parts.append(figure if len(sources) == 1 else Details(figure.title, (figure,)))
    return Section("steps", "Steps", tuple(parts or [Text("The run has no steps yet.")]))


def _figure(state: RunState, name: str, run: str) -> Figure:
    shown = top_arms(state, compute_standings(state))
    boxes, edges = _boxes(state, shown)
    heading = f"Steps of {run}" if run else "Steps by arm and round"
    shared = sum(box.steps for (lane, _), box in boxes.items() if lane == _SHARED)
    text = f"{plural(len(state.steps), 'step')}, {shared} shared between arms."
    if len(shown) < len(state.arms):
        text += f" Showing {len(shown)} of {len(state.arms)} arms: those with the smallest winning tickets."
    text += " Each box covers all seeds; pale boxes were skipped. Lines lead from a result to the steps that use it."
    kinds = sorted(
        {kind for box in boxes.values() for kind in box.kinds}, key=lambda kind: [*_OPERATION_STYLES, kind].index(kind)
    )
    legend = tuple((_chip_symbol(kind), kind) for kind in kinds)
    drawing = _drawing(boxes, edges, accessible_title(heading, text, name))
    return Figure(heading, text, lambda: drawing, None, legend)


def _boxes(state: RunState, shown: Sequence[str]) -> tuple[dict[Place, _Box], Counter[tuple[Place, Place]]]:
    measured = (*state.measurements, *state.extra_measurements)
    uses = first_uses([step.info for step in state.steps.values()], measured, state.contestants)
    places: dict[str, Place] = {}
    boxes: dict[Place, _Box] = defaultdict(_Box)
    for name, step in state.steps.items():
        arms = [arm for arm in step.info.arms if arm in shown]
        if not arms or name not in uses:
            continue
        level, contestant = uses[name]
        control = "" if contestant in ("dense", "ticket") else contestant
        place = places[name] = (_SHARED if len(step.info.arms) > 1 else (arms[0], control), level)
        boxes[place].kinds[step.info.operation] += 1
        boxes[place].idle += step.status == "skipped"
        boxes[place].failed += step.status == "failed"
    edges: Counter[tuple[Place, Place]] = Counter()
    for name, place in places.items():
        for parent in state.steps[name].info.parents:
            if parent in places and places[parent] != place:
                edges[places[parent], place] += 1
    lanes = [_SHARED]
    for arm in shown:
        lanes += [(arm, ""), *((arm, name) for name in state.contestants if name not in ("dense", "ticket"))]
    return {place: boxes[place] for place in sorted(boxes, key=lambda place: (lanes.index(place[0]), place[1]))}, edges


def _drawing(boxes: Mapping[Place, _Box], edges: Iterable[tuple[Place, Place]], title: tuple[str, str]) -> str:
    lanes = list(dict.fromkeys(lane for lane, _ in boxes))
    columns: dict[int, int] = {}
    for (_, level), box in boxes.items():
        columns[level] = max(columns.get(level, 0), box.width)
    column_x: dict[int, int] = {}
    x = _LABEL
    for level in sorted(columns):
        column_x[level] = x
        x += columns[level] + _GAP
    width, height = x - _GAP + 8, _TOP + _LANE * len(lanes) + 4
    attributes, title_element = title
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="steps" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" {attributes}>',
        title_element,
    ]
    for level, x0 in column_x.items():
        middle = x0 + columns[level] / 2
        parts.append(
            f'<text x="{middle:.0f}" y="18" text-anchor="middle">{(level and f"round {level}") or "dense"}</text>'
        )
    for row, lane in enumerate(lanes):
        y = _TOP + _LANE * row
        if row % 2 == 0:
            parts.append(f'<rect class="lane" x="0" y="{y}" width="{width}" height="{_LANE}"/>')
        parts.append(_label(lane, y + _LANE // 2 + 4, (lane[0], "") in lanes))
    positions = {
        (lane, level): (column_x[level], _TOP + _LANE * lanes.index(lane) + (_LANE - _BOX) // 2)
        for lane, level in boxes
    }
    for start, end in edges:
        parts.append(_edge(positions[start], boxes[start].width, positions[end], end[1] - start[1] > 1))
    for place, box in boxes.items():
        parts += _box(*positions[place], box)
    return "\n".join([*parts, "</svg>\n"])


def _label(lane: Lane, y: int, indented: bool) -> str:
    """The label of a lane; a control is indented below its arm."""
    control = lane[1]
    name = control if control and indented else " ".join(filter(None, lane))
    short = name if len(name) <= 28 else name[:13] + "…" + name[-14:]
    return f'<text x="{22 if control and indented else 8}" y="{y}">{escape(short)}</text>'


def _edge(start: tuple[int, int], width: int, end: tuple[int, int], far: bool) -> str:
    x1, y1, x2, y2 = start[0] + width, start[1] + _BOX / 2, end[0], end[1] + _BOX / 2
    kind = "wire far" if far else "wire"
    if x2 <= x1:  # within a round: a vertical line
        middle, down = start[0] + 8, y2 > y1
        return f'<path class="{kind}" d="M{middle} {y1 + (14 if down else -14):.0f}V{y2 - (14 if down else -14):.0f}"/>'
    bend = min(40.0, (x2 - x1) / 2)
    return f'<path class="{kind}" d="M{x1} {y1:.0f}C{x1 + bend:.0f} {y1:.0f} {x2 - bend:.0f} {y2:.0f} {x2} {y2:.0f}"/>'


def _box(x: int, y: int, box: _Box) -> Iterator[str]:
    idle = ' opacity=".45"' if box.idle == box.steps else ""
    failed = " failed" if box.failed else ""
    tooltip = ", ".join(f"{number} {kind}" for kind, number in box.kinds.items())
    yield f"<g{idle}><title>{escape(tooltip)}</title>"
    yield f'<rect class="box{failed}" x="{x}" y="{y}" width="{box.width}" height="{_BOX}" rx="6"/>'
    for index, (kind, number) in enumerate(box.kinds.items()):
        chip_x = x + 6 + _CHIP * index
        yield _chip(chip_x, y + 6, kind)
        yield f'<text x="{chip_x + 19}" y="{y + 19}">{number}</text>'
    yield "</g>"


def _chip(x: int, y: int, kind: str) -> str:
    colour, letter = _OPERATION_STYLES.get(kind, (_GREY, _GREY_LETTERS.get(kind, "?")))
    ink = "#ffffff" if kind == "train" else "#000000"
    return (
        f'<rect x="{x}" y="{y}" width="16" height="16" rx="3" fill="{colour}"/>'
        f'<text x="{x + 8}" y="{y + 12}" text-anchor="middle" class="chip" style="fill:{ink}">{letter}</text>'
    )


def _chip_symbol(kind: str) -> str:
    return (
        f'<svg class="symbol" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">{_chip(0, 0, kind)}</svg>'
    )
