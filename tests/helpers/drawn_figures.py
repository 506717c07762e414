"""Reads what a figure draws: markers with their intervals, texts, and positions in SVG."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

import attrs
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from tickdsl.results.state import RunState

SVG = "{http://www.w3.org/2000/svg}"


@attrs.frozen
class DrawnNetwork:
    """A marker, and the ends of its interval."""

    x: float
    y: float
    low: float
    high: float


def networks(figure: Figure, name: str) -> list[DrawnNetwork]:
    """The networks that are drawn under this name, in all axes, in the order of the points."""
    drawn = []
    for axes in figure.axes:
        for container in axes.containers:
            if isinstance(container, ErrorbarContainer) and container.get_label() == name:
                line, _, (bars,) = container.lines
                for x, y, bar in zip(*line.get_data(), bars.get_segments(), strict=True):
                    assert bar[0][0] == bar[1][0] == x, "an interval stands beside its marker"
                    drawn.append(DrawnNetwork(x, y, bar[0][1], bar[1][1]))
    return drawn


def names(figure: Figure) -> set[str]:
    """The names of everything that is drawn with intervals."""
    return {str(container.get_label()) for axes in figure.axes for container in axes.containers}


def texts(figure: Figure) -> list[str]:
    """Title, legend and caption."""
    return [text.get_text() for text in figure.texts]


def svg_of(figure: Figure) -> ElementTree.Element:
    """What matplotlib writes, with its ids."""
    content = io.BytesIO()
    figure.savefig(content, format="svg")
    return ElementTree.fromstring(re.sub(r"<!DOCTYPE[^>]*>", "", content.getvalue().decode()))


def positions(svg: ElementTree.Element, group: str) -> list[tuple[float, float]]:
    """Where the markers in the groups with this id stand."""
    uses = [use for g in svg.iter(f"{SVG}g") if g.get("id") == group for use in g.iter(f"{SVG}use")]
    return [(float(use.get("x", "nan")), float(use.get("y", "nan"))) for use in uses]


def tick_positions(svg: ElementTree.Element, axis: str) -> dict[str, float]:
    """The positions of the ticks of an axis (x or y), by label."""
    ticks = {}
    for group in svg.iter(f"{SVG}g"):
        if (group.get("id") or "").startswith(f"{axis}tick_"):
            use, label = next(group.iter(f"{SVG}use"), None), next(group.iter(f"{SVG}text"), None)
            if use is not None and label is not None and label.text:
                ticks[label.text] = float(use.get(axis, "nan"))
    return ticks


def with_accuracies(state: RunState, change) -> RunState:  # type: ignore[no-untyped-def]
    """The state with `change(arm, contestant, level, seed, accuracy)` in place of each accuracy."""
    return attrs.evolve(
        state,
        metrics={
            key: attrs.evolve(metric, accuracy=change(*key, metric.accuracy), correct=None)
            for key, metric in state.metrics.items()
        },
    )
