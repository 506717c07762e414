"""Files of figures: fonts are embedded, the size is the one asked for, and equal figures are equal bytes."""

from __future__ import annotations

import io
import itertools
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from drawn_figures import SVG
from finished_runs import finished_run
from PIL import Image
from pypdf import PdfReader
from pypdf.generic import DictionaryObject
from written_runs import write_run

from tickdsl.errors import TickdslError
from tickdsl.figures import FORMATS, figure, figure_options, render_figure
from tickdsl.figures.options import parse_length, split_arms
from tickdsl.figures.page import inline_svg, page_options
from tickdsl.results.state_builder import read_run

HELPERS = str(Path(__file__).parents[1] / "helpers")


def fonts(content: bytes) -> list[DictionaryObject]:
    page = PdfReader(io.BytesIO(content)).pages[0]
    return [font.get_object() for font in page["/Resources"]["/Font"].values()]  # type: ignore[index, union-attr]


@pytest.mark.parametrize("width", [3.3, "84mm"])
def test_a_pdf_embeds_its_fonts_and_has_the_width_asked_for(width: float | str) -> None:
    content = render_figure(finished_run(), "pdf", figure_options("accuracy", width=width, font=7))
    reader = PdfReader(io.BytesIO(content))
    assert len(reader.pages) == 1
    assert float(reader.pages[0].mediabox.width) == pytest.approx(72 * (3.3 if width == 3.3 else 84 / 25.4), abs=0.01)
    assert float(reader.pages[0].mediabox.height) < float(reader.pages[0].mediabox.width)
    assert fonts(content)
    for font in fonts(content):
        assert font["/Subtype"] != "/Type3"
        inner = font["/DescendantFonts"][0].get_object() if "/DescendantFonts" in font else font  # type: ignore[index]
        assert "/FontFile2" in inner["/FontDescriptor"].get_object()
    text = reader.pages[0].extract_text()
    assert "95% CI, n=3" in text and "weights left (%)" in text
    assert "/CreationDate" not in (reader.metadata or {})


def test_equal_figures_are_equal_bytes_whatever_the_settings_of_the_user(tmp_path: Path) -> None:
    settings = "lines.linewidth: 9\npdf.fonttype: 3\nsvg.fonttype: path\nsavefig.bbox: tight\n"
    (tmp_path / "matplotlibrc").write_text(settings)
    code = (
        f"import sys; sys.path.insert(0, {HELPERS!r}); from finished_runs import finished_run; "
        "from tickdsl.figures import FORMATS, figure_options, render_figure; "
        "[open(f'figure.{f}', 'wb').write(render_figure(finished_run(), f, figure_options('accuracy')))"
        " for f in FORMATS]"
    )
    environment = {**os.environ, "MATPLOTLIBRC": str(tmp_path / "matplotlibrc"), "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=tmp_path)
    for format in FORMATS:
        expected = render_figure(finished_run(), format, figure_options("accuracy"))
        assert (tmp_path / f"figure.{format}").read_bytes() == expected


def test_an_svg_is_named_for_screen_readers() -> None:
    root = ElementTree.fromstring(render_figure(finished_run(), "svg", figure_options("accuracy")))
    assert root.get("role") == "img"
    ids = {element.get("id"): element for element in root.iter() if element.get("id")}
    assert ids[root.get("aria-labelledby")].text == "colt: accuracy against the weights left"
    assert any(text.text == "random-init" for text in root.iter(f"{SVG}text"))


def test_figures_in_one_page_share_no_ids_and_have_its_colours() -> None:
    states = {"colt": finished_run()}
    drawings = [inline_svg(states, page_options(600), "title", "what", prefix) for prefix in ("a", "b")]
    ids = [
        {element.get("id") for element in ElementTree.fromstring(svg).iter() if element.get("id")} for svg in drawings
    ]
    assert ids[0] and not ids[0] & ids[1]
    for svg in drawings:
        assert "var(--arm-1)" in svg and "#" not in svg.replace("#a-", "").replace("#b-", "")
        assert "font-family" not in svg and "<style" not in svg
        assert len(svg) < 40_000


def test_styles_have_their_papers() -> None:
    corners = {}
    for style in ("paper", "slides", "dark"):
        image = Image.open(io.BytesIO(render_figure(finished_run(), "png", figure_options("accuracy", style=style))))
        corners[style] = image.convert("L").getpixel((2, 2))
        assert image.width == {"paper": 990, "slides": 1600, "dark": 1600}[style]
    assert corners["paper"] == corners["slides"] == 255 and corners["dark"] < 30


def test_lengths_have_units() -> None:
    assert parse_length("3.3in") == 3.3
    assert parse_length("84 mm") == pytest.approx(84 / 25.4)
    assert parse_length("8.4cm") == pytest.approx(parse_length("84mm"))
    assert parse_length("72pt") == 1.0
    for text in ("3.3", "in", "-3in", "3.3 inches", "1e3in"):
        with pytest.raises(TickdslError, match="not a width"):
            parse_length(text)


def test_commas_within_brackets_belong_to_an_arm() -> None:
    assert split_arms("a, imp[scope=local,rate=2],b") == ("a", "imp[scope=local,rate=2]", "b")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "pie"}, "no figure `pie`"),
        ({"style": "comic"}, "no style `comic`"),
        ({"width": "0.5in"}, "a width of 0.5 inches is not possible"),
        ({"width": 1e9}, "is not possible"),
        ({"font": 1}, "a font of 1 points is not possible"),
        ({"width": "2in", "font": 40}, "too large for a width of 2 inches"),
        ({"ylim": "90"}, "no limits"),
        ({"ylim": "95,90"}, "95 to 90 are no limits"),
        ({"ylim": "nan,5"}, "no limits"),
        ({"ylim": (0, float("inf"))}, "no limits"),
    ],
)
def test_what_is_not_possible_is_one_message(options: dict[str, object], message: str) -> None:
    with pytest.raises(TickdslError, match=message):
        figure_options(**{"kind": "accuracy", **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["accuracy", "flops", "pareto", "layers"])
@pytest.mark.parametrize("ylim", [(90, 101), (-1, 50)])
def test_limits_of_a_percentage_are_possible_ones(kind: str, ylim: tuple[float, float], tmp_path: Path) -> None:
    state = read_run(write_run(tmp_path))
    with pytest.raises(TickdslError, match="no limits of a percentage"):
        figure(state, kind, ylim=ylim)


@pytest.mark.parametrize("kind", ["accuracy", "flops", "pareto"])
def test_a_figure_in_grey_still_tells_arms_apart(kind: str) -> None:
    """Each marker of the legend, in grey, differs from every other."""
    from matplotlib.lines import Line2D

    from tickdsl.figures.artists import slot_line
    from tickdsl.figures.result_figure import ResultFigure

    images = []
    for slot in range(6):
        drawn = ResultFigure(figsize=(1, 0.3))
        drawn.settings = {}
        style = slot_line(slot, "ticket", figure_options(kind))
        drawn.add_artist(Line2D([0.1, 0.9], [0.5, 0.5], **{**style, "color": "black", "markerfacecolor": "black"}))
        content = io.BytesIO()
        drawn.savefig(content, format="png", dpi=150)
        images.append(Image.open(content).convert("L").tobytes())
    for one, other in itertools.combinations(images, 2):
        different = sum(abs(a - b) > 100 for a, b in zip(one, other, strict=True))
        assert different > 40
