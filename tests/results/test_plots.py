"""The plot is well-formed SVG, labels every curve, and stays inside its frame."""

import re
from xml.etree import ElementTree

import attrs
import pytest
from finished_runs import finished_run

from tickdsl.results.state import RunState
from tickdsl.results.svg_plots import COLOURS, accuracy_svg

NAMESPACE = "{http://www.w3.org/2000/svg}"


def test_every_curve_is_drawn_and_labelled() -> None:
    state = finished_run()
    svg = accuracy_svg(state)
    assert svg is not None
    root = ElementTree.fromstring(svg)
    texts = {text.text for text in root.iter(f"{NAMESPACE}text")}
    drawn = {(key[0], key[1]) for key in state.metrics if key[1] != "dense"}
    assert {arm for arm, contestant in drawn if contestant == "ticket"} <= texts
    assert {f"{contestant} ({arm})" for arm, contestant in drawn if contestant != "ticket"} <= texts
    assert len(list(root.iter(f"{NAMESPACE}polyline"))) == len(drawn)


def test_every_point_lies_inside_the_frame() -> None:
    svg = accuracy_svg(finished_run())
    assert svg is not None
    width, height = map(float, re.search(r'viewBox="0 0 (\d+) (\d+)"', svg).groups())  # type: ignore[union-attr]
    for points in re.findall(r'points="([^"]+)"', svg):
        for pair in points.split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= height


def test_no_measurements_give_no_plot() -> None:
    assert accuracy_svg(RunState()) is None


@pytest.mark.parametrize("hostile", ["<script>", 'a"b', "&"])
def test_names_are_escaped(hostile: str) -> None:
    state = finished_run()
    first = attrs.evolve(state.arms[0], id=hostile)
    metrics = {
        (hostile if key[0] == "colt" else key[0], *key[1:]): attrs.evolve(m, arm=hostile) if m.arm == "colt" else m
        for key, m in state.metrics.items()
    }
    svg = accuracy_svg(attrs.evolve(state, arms=(first, *state.arms[1:]), metrics=metrics))
    assert svg is not None
    texts = [text.text for text in ElementTree.fromstring(svg).iter(f"{NAMESPACE}text")]
    assert hostile in texts


def test_with_hundreds_of_arms_only_six_are_coloured() -> None:
    base = finished_run(controls=())
    arms = tuple(attrs.evolve(base.arms[0], id=f"a{n}", name=f"a{n}") for n in range(300))
    metrics = {
        (arm.id, *key[1:]): attrs.evolve(m, arm=arm.id, accuracy=m.accuracy - (n != 150) * 0.1 * (key[2] > 0))
        for n, arm in enumerate(arms)
        for key, m in base.metrics.items()
        if key[0] == "colt" and m.accuracy is not None
    }
    svg = accuracy_svg(attrs.evolve(base, arms=arms, metrics=metrics))
    assert svg is not None
    root = ElementTree.fromstring(svg)
    texts = [text.text or "" for text in root.iter(f"{NAMESPACE}text")]
    assert len([text for text in texts if re.fullmatch(r"a\d+", text)]) == len(COLOURS)
    assert "a150" in texts  # the only one that wins
    assert "294 more arms" in texts
    assert len(list(root.iter(f"{NAMESPACE}polyline"))) == 300
