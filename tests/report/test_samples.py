"""Pictures of networks in the report: read from the store, drawn without smoothing, absent without them."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import pytest
from PIL import Image
from recorded_run import recorded_events

from tickdsl.records.samples import SAMPLES, read_samples, stored_samples
from tickdsl.report.document import Figure, Panels
from tickdsl.report.samples import samples_section
from tickdsl.report.source import ReportSource
from tickdsl.results.pictures import png_size
from tickdsl.results.state_builder import build_state


def png(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (width, height), 200).save(stream, "PNG")
    return stream.getvalue()


def source(pictures: dict[tuple[str, str, int, int], bytes]) -> ReportSource:
    return ReportSource(build_state(recorded_events()), "", "ok", pictures=pictures)


def test_each_network_with_pictures_has_a_drawing_of_them() -> None:
    arms = [arm.id for arm in source({}).state.arms]
    pictures = {
        (arms[0], "ticket", 2, 1): png(8, 4), (arms[0], "dense", 0, 1): png(9, 9), (arms[0], "ticket", 1, 1): png(5, 5)
    }  # fmt: skip
    (section,) = samples_section([source(pictures)])
    (panels,) = (part for part in section.parts if isinstance(part, Panels))
    figures = [part for part in panels.parts if isinstance(part, Figure)]
    assert [figure.title for figure in figures] == ["dense", "round 1", "round 2"]
    embedded = re.search(r"base64,([A-Za-z0-9+/=]+)", figures[2].wide())
    assert embedded is not None and base64.b64decode(embedded[1]) == png(8, 4)
    assert 'viewBox="0 0 290 145.0"' in figures[2].wide()


def test_runs_without_pictures_have_no_section() -> None:
    assert samples_section([source({})]) == []


@pytest.mark.parametrize("content", [b"", b"not a png at all, but long enough", png(3, 2)[:20]])
def test_what_is_no_picture_has_no_size(content: bytes) -> None:
    assert png_size(content) is None
    assert png_size(png(3, 2)) == (3, 2)


def test_pictures_are_read_from_the_folder_of_a_result(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "ab" / "abcdef"
    folder.mkdir(parents=True)
    assert read_samples(folder) is None and stored_samples(tmp_path, "abcdef") is None
    (folder / SAMPLES).write_bytes(b"png")
    assert stored_samples(tmp_path, "abcdef") == b"png" == read_samples(folder)
