"""`tickdsl graph`: every layer, group and reason is shown, shares add up, and all formats agree."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import networkx as nx
import numpy as np
import pytest
from rich.console import Console

from tickdsl.cli import main
from tickdsl.graph.costs import cost
from tickdsl.graph.layer_tree import GraphView
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.inspect.graph_drawing import layer_graph
from tickdsl.inspect.graph_subject import spec_of_model
from tickdsl.inspect.graph_text import print_view
from tickdsl.inspect.graph_tree import collapse_names, tree_lines
from tickdsl.inspect.uniform_pruning import uniform_preview

GOLDEN = Path(__file__).parent / "golden"
#: Plain, residual, inverted residual, dense, branched, shuffled.
NETWORKS = ("small-cnn", "lenet5", "resnet20", "mobilenet_v2", "squeezenet1_1", "shufflenet_v2_x0_5")
SLOW = ("densenet121", "googlenet", "vit_b_16", "swin_t")


@pytest.fixture(params=[*NETWORKS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def view(request: pytest.FixtureRequest) -> GraphView:
    return spec_of_model(request.param, [], None, None).view()


def text_of(view: GraphView, width: int = 400, **more: Any) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None)
    print_view(view, "title", more.get("preview"), console, full=more.get("full", True))
    return out.getvalue()


@pytest.mark.parametrize("name", ["small-cnn", "resnet20"])
def test_the_text_is_the_golden_one(harness: Any, name: str) -> None:
    result = harness.call("graph", name, "--at", "50%")
    assert (result.exit, result.err) == (0, "")
    # The number of intermediate results depends on the version of torch.
    lines = [line.rstrip() for line in result.out.splitlines() if "activation bytes" not in line]
    assert max(map(len, lines)) <= 100
    assert lines == (GOLDEN / f"graph-{name}.txt").read_text().splitlines()


def test_lines_of_layers_that_are_alike_stand_for_all_of_them(view: GraphView) -> None:
    whole, folded = list(tree_lines(view, full=True)), list(tree_lines(view, full=False))
    assert all(len(line.branch.layers) == 1 for line in whole)
    assert Counter(one.path for line in folded for one in line.branch.layers) == Counter(
        one.path for line in whole for one in line.branch.layers
    )
    for line in folded:
        assert len({(one.kind, one.outputs, len(one.groups), len(one.blocks)) for one in line.branch.layers}) == 1
    repeated = any(len(line.branch.layers) > 1 for line in folded)
    assert ("--full" in text_of(view, full=False)) == repeated == (len(folded) < len(whole))
    assert "--full" not in text_of(view)


def test_equal_layers_share_a_line_unless_full_is_asked_for(harness: Any) -> None:
    short, full = (harness.call("graph", "resnet56", *more).out for more in ((), ("--full",)))
    assert "1 … 8 ×8" in short
    assert "layer1.0 … 8.conv2" in short
    assert "--full" not in full
    assert len(full.splitlines()) > 2 * len(short.splitlines())


def test_names_that_differ_in_one_number_are_a_span() -> None:
    names = [f"stage.{place}.norm" for place in (3, 4, 5, 6)]
    assert collapse_names(["a", *names, "b.1", "b.2"]) == ["a", "stage.3 … 6.norm", "b.1", "b.2"]
    assert collapse_names(["x1", "x2", "x3", "x5"]) == ["x1", "x2", "x3", "x5"]
    assert collapse_names([]) == []


def test_own_shares_add_up_to_the_network(view: GraphView) -> None:
    assert sum(layer.params for layer in view.layers) == view.dense.params
    assert sum(layer.macs for layer in view.layers) == view.dense.macs > 0
    assert view.dense.macs * view.batch_size == cost(view.graph, Structure.dense(view.graph)).macs


def test_every_parent_stands_before_what_is_in_it(view: GraphView) -> None:
    seen: set[str] = set()
    for layer in view.layers:
        assert layer.path not in seen
        assert layer.parent is None or layer.parent in seen
        seen.add(layer.path)


def test_every_group_is_on_a_layer_and_coupled_or_fixed_ones_are_listed_once(view: GraphView) -> None:
    shown = Counter(group.name for layer in view.layers for group in layer.groups)
    assert set(shown) == {group.name for group in view.graph.channels}
    text = re.sub(" +", " ", text_of(view, 20_000))
    for group in view.graph.channels:
        if group.reason is not None or len(group.producers) > 1:
            assert text.count(f"{group.size} {group.kind} {', '.join(group.producers)}") == 1
        if group.reason is not None:
            assert group.reason in text


def test_every_block_and_every_reason_is_shown(view: GraphView) -> None:
    shown = Counter(block.name for layer in view.layers for block in layer.blocks)
    assert shown == Counter(block.name for block in view.graph.blocks)
    text = text_of(view)
    for block in view.graph.blocks:
        assert block.reason is None or block.reason in text
    assert text.count("● yes") == len(view.graph.layers)
    free = sum(block.reason is None for block in view.graph.blocks)
    assert text.count("○ yes") == free - len(view.graph.layers)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_uniform_preview_costs_what_the_structure_costs(view: GraphView, share: float) -> None:
    preview = uniform_preview(view, share)
    structure = Structure.dense(view.graph)
    for group in view.graph.channels:
        kept = preview.kept[group.name]
        if group.reason is None:
            assert abs(kept - group.size * (1 - share)) <= 0.5 or kept == 1
            # The first units instead of the last ones: the cost does not depend on which are removed.
            structure = structure.remove(group.name, range(group.size - kept))
        else:
            assert kept == group.size
    assert preview.after.params < preview.before.params
    assert preview.after.macs < preview.before.macs
    if all(len(set(np.bincount(part.unit))) == 1 for group in view.graph.channels for part in group.slices):
        assert cost(view.graph, structure).params == preview.after.params


def test_the_drawn_graph_has_every_working_layer_and_no_cycle(view: GraphView) -> None:
    drawn = layer_graph(view)
    assert nx.is_directed_acyclic_graph(drawn)
    assert nx.is_weakly_connected(drawn)
    layers = {data["node"].layer.path for _, data in drawn.nodes(data=True) if data["node"].layer is not None}
    assert {layer.path for layer in view.layers if layer.macs} <= layers


@pytest.mark.parametrize("width", [42, 60, 80, 200])
def test_a_narrow_terminal_cuts_no_line(view: GraphView, width: int) -> None:
    lines = text_of(view, width).splitlines()
    assert max(map(len, lines)) <= width
    assert any("group" in line for line in lines[:3])


def test_json_holds_the_graph_and_the_layers(harness: Any) -> None:
    result = harness.call("graph", "resnet20", "--json", "--at", "0.5")
    (network,) = json.loads(result.out)["networks"]
    graph = ModelGraph.from_json(json.dumps(network["graph"]))
    view = spec_of_model("resnet20", [], None, None).view()
    assert graph.to_json() == view.graph.to_json()
    assert [layer["path"] for layer in network["layers"]] == [layer.path for layer in GraphView(graph).layers]
    assert sum(layer["params_share"] for layer in network["layers"]) == pytest.approx(1)
    assert sum(layer["macs_share"] for layer in network["layers"]) == pytest.approx(1)
    assert network["preview"]["after"]["params"] < network["cost"]["params"]


def test_svg_and_dot_show_every_layer(harness: Any) -> None:
    view = spec_of_model("resnet20", [], None, None).view()
    working = [layer.path for layer in view.layers if layer.macs]
    svg = harness.call("graph", "resnet20", "--svg").out
    words = [element.text for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    dot = harness.call("graph", "resnet20", "--dot").out
    assert svg.isascii() and dot.isascii()
    for path in working:
        assert words.count(path) == 1
        assert len(re.findall(rf'^  "{re.escape(path)}" \[', dot, re.MULTILINE)) == 1
    assert dot.count("subgraph cluster_") == len(view.graph.layers)


def test_a_plan_shows_each_of_its_networks_once(harness: Any) -> None:
    harness.write("arm a { model lenet5; data synthetic size=16; prune filters 20% }\narm b { prune filters 30% }\n")
    result = harness.call("graph", harness.plan)
    assert result.exit == 0, result.err
    assert result.out.count("lenet5 on synthetic: 3×16×16") == 1
    assert result.out.count("small-cnn width=0.5 on synthetic: 3×8×8") == 1
    assert harness.call("graph", harness.plan, "--svg").exit == 2


def test_a_plan_with_errors_exits_1(harness: Any) -> None:
    harness.write("prune filtres 20%\n")
    result = harness.call("graph", harness.plan)
    assert (result.exit, result.out) == (1, "")
    assert "filters" in result.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["resnet-20"], "did you mean `resnet20`"),
        (["small-cnn", "--on", "cifar11"], "did you mean"),
        (["small-cnn", "--on", "digits size=-3"], "at least 1"),
        (["small-cnn", "--option", "widht=2"], "did you mean `width`"),
        (["small-cnn", "--option", "width=wide"], "width=wide is not a number"),
        (["resnet18", "--option", "width=2"], "use weights"),
        (["resnet18", "--on", "digits"], "channels"),
        (["absent.plan"], "absent.plan"),
        ([], "--list"),
    ],
)
def test_bad_input_is_one_message_and_exit_2(harness: Any, words: list[str], message: str) -> None:
    result = harness.call("graph", *words)
    assert (result.exit, result.out) == (2, "")
    assert message in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize("share", ["0", "100%", "half", "-20%"])
def test_a_share_lies_between_0_and_1(capsys: pytest.CaptureFixture[str], share: str) -> None:
    with pytest.raises(SystemExit) as left:
        main(["graph", "small-cnn", f"--at={share}"])
    assert left.value.code == 2
    assert "not a share" in capsys.readouterr().err


def test_every_model_of_tickdsl_has_data_that_it_is_shown_on(tmp_path: Path) -> None:
    from tickdsl.inspect.graph_subject import spec_of_model
    from tickdsl.training.catalogue import MODELS

    for name, info in MODELS.builtin.items():
        if info.is_builtin:
            assert spec_of_model(name, (), None, tmp_path).shape, name


def test_the_list_names_every_model_once(harness: Any) -> None:
    from tickdsl.training.catalogue import MODELS, TORCHVISION_PREFIX

    words = Counter(line.split()[0] for line in harness.call("graph", "--list").out.splitlines())
    for name in MODELS:
        if not name.startswith(TORCHVISION_PREFIX):
            assert words[name] == 1, name
