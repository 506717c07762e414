"""The section with pictures that networks make: of the dense network, and of the ticket of each round."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from tickdsl.report.document import Figure, Heading, Panels, Part, Section, Text
from tickdsl.report.source import ReportSource
from tickdsl.results.pictures import png_size
from tickdsl.results.state import MetricKey

#: The width of a grid in a report, in pixels of a page; images of a few pixels are enlarged.
_WIDTH = 290


def samples_section(sources: Sequence[ReportSource]) -> list[Section]:
    """The section in a list, empty if no network makes pictures."""
    parts: list[Part] = []
    for source in sources:
        prefix = f"{source.name}: " if len(sources) > 1 else ""
        for arm in source.state.arms:
            figures = tuple(_figures(arm.id, source.pictures))
            if figures:
                parts += [Heading(f"{prefix}{arm.id}"), Panels(figures)]
    if not parts:
        return []
    parts.append(Text("Of the first seed, with the same noise for all networks; no choice of the best ones.", "note"))
    return [Section("samples", "Pictures", tuple(parts))]


def _figures(arm: str, pictures: Mapping[MetricKey, bytes]) -> Iterator[Figure]:
    for key in sorted(pictures, key=lambda key: key[2]):
        owner, contestant, level, _ = key
        if owner == arm:
            title = "dense" if contestant == "dense" else f"round {level}"
            drawn = partial(_as_svg, pictures[key])
            yield Figure(title, f"Pictures that the network of {arm}, {title}, makes.", drawn)


def _as_svg(png: bytes) -> str:
    """An SVG drawing of a PNG file, enlarged without smoothing."""
    size = png_size(png)
    assert size is not None
    width, height = size
    data = base64.b64encode(png).decode()
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_WIDTH * height / width:.1f}" '
        f'width="{_WIDTH}" height="{_WIDTH * height / width:.1f}">'
        f'<image width="100%" height="100%" style="image-rendering:pixelated" '
        f'href="data:image/png;base64,{data}"/></svg>'
    )
