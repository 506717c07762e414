"""The HTML report in a browser: no console messages or requests, and accessible at three sizes in both themes."""

from __future__ import annotations

import io
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from headless_browser import CHROMIUM, Browser, browser
from pypdf import PageObject, PdfReader
from written_runs import PLAN, write_run

from tickdsl.records import RunPaths
from tickdsl.report import read_source, render_report

STYLE = Path(__file__).parents[2] / "tickdsl" / "report" / "templates" / "style.css"
SIZES = [(390, 844), (1280, 900), (1920, 1080)]


def axe() -> Path | None:
    """The path of axe-core from $AXE_CORE or npm, if installed."""
    if "AXE_CORE" in os.environ:
        return Path(os.environ["AXE_CORE"])
    try:
        root = subprocess.run(["npm", "root", "-g"], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    script = Path(root) / "axe-core" / "axe.min.js"
    return script if script.exists() else None


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt install chromium")
    with browser(tmp_path_factory.mktemp("profile")) as chromium_browser:
        yield chromium_browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("runs")
    kinds: dict[str, list[RunPaths]] = {
        "one": [write_run(out)],
        "several": [write_run(out), write_run(out, plan="later", text=PLAN.replace("30%", "20%"), arms=4)],
        "failed": [write_run(out, end="failed", arms=20)],
    }
    paths = {}
    for name, runs in kinds.items():
        paths[name] = out / f"{name}.html"
        paths[name].write_bytes(render_report("html", [read_source(run) for run in runs]))
    return paths


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one", "several", "failed"])
@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_logs_nothing_and_fits(
    chromium: Browser, pages: dict[str, Path], name: str, width: int, height: int, scheme: str
) -> None:
    page = chromium.page()
    page.open(pages[name].as_uri(), width, height, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width  # only tables may scroll sideways
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    least = "Math.min(...[...document.querySelectorAll('svg text')].filter(t => t.getBoundingClientRect().width)"
    least += ".map(t => Math.hypot(t.getScreenCTM().a, t.getScreenCTM().b) * parseFloat(getComputedStyle(t).fontSize)))"
    assert page.evaluate(least) > 10.5  # pixels, including text in plots
    assert page.screenshot().startswith(b"\x89PNG")
    assert page.messages == []
    assert page.requests == [pages[name].as_uri()]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one", "several", "failed"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(chromium: Browser, pages: dict[str, Path], name: str, scheme: str) -> None:
    script = axe()
    if script is None:
        pytest.skip("needs axe-core: npm install -g axe-core, or set $AXE_CORE to the path of axe.min.js")
    for width, height in SIZES:
        page = chromium.page()
        page.open(pages[name].as_uri(), width, height, scheme)
        page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
        page.evaluate(f"{script.read_text()};0")
        violations = page.evaluate(
            "axe.run().then(r => r.violations.map(v => v.id + ': ' + v.nodes[0].failureSummary))"
        )
        assert violations == []


@pytest.mark.slow
def test_everything_is_shown_in_print(chromium: Browser, pages: dict[str, Path]) -> None:
    page = chromium.page()
    page.open(pages["several"].as_uri(), scheme="dark")
    page.call("Emulation.setEmulatedMedia", media="print")
    hidden = "[...document.querySelectorAll('details td')].filter(cell => !cell.getBoundingClientRect().height).length"
    assert page.evaluate("document.querySelectorAll('details td').length") > 0
    assert page.evaluate(hidden) == 0
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf().startswith(b"%PDF")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one", "several", "failed"])
def test_tables_are_no_wider_than_paper(chromium: Browser, pages: dict[str, Path], name: str) -> None:
    within_margins = 695  # CSS pixels on A4, which is narrower than US Letter; browsers shrink wider pages
    page = chromium.page()
    page.open(pages[name].as_uri(), within_margins)
    page.call("Emulation.setEmulatedMedia", media="print")
    assert page.evaluate("document.documentElement.scrollWidth") == within_margins


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one", "several"])
def test_the_first_screen_shows_answer_figure_and_the_top_of_the_table(
    chromium: Browser, pages: dict[str, Path], name: str
) -> None:
    page = chromium.page()
    page.open(pages[name].as_uri(), 1280, 800)
    edge = "document.querySelector('{}').getBoundingClientRect().{}"
    assert page.evaluate(edge.format(".lead", "bottom")) < page.evaluate(edge.format("figure svg", "top"))
    assert page.evaluate(edge.format("figure svg", "bottom")) < 800
    assert page.evaluate(edge.format("main caption", "bottom")) < 800
    assert page.evaluate("document.querySelector('#plan + details').open") is False
    if name == "one":
        assert page.evaluate(edge.format("main tbody tr", "bottom")) < 800


@pytest.mark.slow
def test_figures_follow_light_and_dark(chromium: Browser, pages: dict[str, Path]) -> None:
    colours = {}
    for scheme in ("light", "dark"):
        page = chromium.page()
        page.open(pages["one"].as_uri(), scheme=scheme)
        style = "getComputedStyle(document.querySelector('figure svg {}')).{}"
        colours[scheme] = (
            page.evaluate(style.format('path[style*="--arm-1"]', "stroke")),
            page.evaluate(style.format("text", "fill")),
            page.evaluate("getComputedStyle(document.body).color"),
        )
    assert colours["light"][0] == "rgb(0, 114, 178)" and colours["dark"][0] == "rgb(74, 163, 232)"
    assert all(text == ink for _, text, ink in colours.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one", "several", "failed"])
def test_captions_are_whole_on_a_phone(chromium: Browser, pages: dict[str, Path], name: str) -> None:
    page = chromium.page()
    page.open(pages[name].as_uri(), 390, 844)
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    cut = """[...document.querySelectorAll('caption span, figcaption')].filter(text => {
        const box = text.getBoundingClientRect(); return box.width > 1 && (box.left < 0 || box.right > 390) })"""
    assert page.evaluate("document.querySelectorAll('caption span').length") > 5
    assert page.evaluate(f"{cut}.map(text => text.textContent)") == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one", "several", "failed"])
def test_no_page_ends_with_the_head_of_a_table(chromium: Browser, pages: dict[str, Path], name: str) -> None:
    page = chromium.page()
    page.open(pages[name].as_uri())
    printed = _bottoms(page.pdf())
    assert len(printed) > 3
    hidden = "caption, thead, h2, h3, figcaption, summary { visibility: hidden !important }"  # keeps its space
    page.evaluate(f"document.head.append(Object.assign(document.createElement('style'), {{textContent: '{hidden}'}}))")
    without_heads = _bottoms(page.pdf())
    assert len(without_heads) == len(printed)
    for number, ((y, line), (bare_y, _)) in enumerate(zip(printed, without_heads, strict=True), 1):
        assert y == pytest.approx(bare_y, abs=1), f"page {number} ends with {line!r}"


def _bottoms(pdf: bytes) -> list[tuple[float, str]]:
    """The height and the text of the lowest line of each printed page."""
    return [_lowest_line(sheet) for sheet in PdfReader(io.BytesIO(pdf)).pages]


def _lowest_line(sheet: PageObject) -> tuple[float, str]:
    pieces: list[tuple[float, str]] = []

    def collect(text: str, cm: list[float], tm: list[float], *_: object) -> None:
        if text.strip():
            pieces.append((tm[4] * cm[1] + tm[5] * cm[3] + cm[5], text))

    sheet.extract_text(visitor_text=collect)
    bottom = min((y for y, _ in pieces), default=float("inf"))
    return bottom, " ".join(text for y, text in pieces if y < bottom + 4)


def _luminance(colour: str) -> float:
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_all_text_has_the_contrast_required_by_wcag() -> None:
    themes = [
        dict(re.findall(r"--([\w-]+): (#\w{6})", block))
        for block in re.findall(r":root \{(.*?)\}", STYLE.read_text(), re.S)
    ]
    assert len(themes) == 3  # light, dark, print
    pairs = [
        (ink, paper)
        for ink in ("ink", "soft", "link", "word", "name", "figure", "text", "remark", "good", "bad")
        for paper in ("paper", "panel")
    ]
    pairs += [
        ("good", "good-paper"),
        ("bad", "bad-paper"),
        ("open", "open-paper"),
        ("ink", "bad-paper"),
        ("ink", "shade"),
    ]
    for theme in themes:
        for ink, paper in pairs:
            light, dark = sorted((_luminance(theme[ink]), _luminance(theme[paper])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, paper)
