"""Structures: errors, kept units, and the round trip through a file."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
import torch
from graph_oracle import make_weights_distinct, random_thinning
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from tickdsl.graph import (
    ModelGraph,
    Structure,
    StructureError,
    compact,
    compact_masks,
    kept_indices,
    remaining_weights,
    slice_state_dict,
    trace,
)
from tickdsl.graph.model import UnknownNameError


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU()]
    return make_weights_distinct(nn.Sequential(*layers, nn.Flatten(), nn.Linear(6 * 36, 4)).double()).eval()


MODEL = network()
GRAPH = trace(MODEL, torch.zeros(1, 2, 8, 8, dtype=torch.float64))
DENSE = Structure.dense(GRAPH)
UNITS = st.sets(st.integers(0, 5), max_size=5)


def test_the_groups_are_the_layers() -> None:
    assert [(g.name, g.size, g.step, g.kind, g.reason) for g in GRAPH.channels] == [
        ("0", 6, 1, "filters", None),
        ("3", 6, 1, "filters", None),
        ("6", 4, 1, "neurons", "the network's output"),
    ]
    slices_by_dim = {(group_slice.parameter, group_slice.dim): group_slice for group_slice in GRAPH.group("3").slices}
    assert slices_by_dim["6.weight", 1].role == "consumer"
    assert list(slices_by_dim["6.weight", 1].unit) == [unit for unit in range(6) for _ in range(36)]
    assert GRAPH.weights["6.weight"].is_output
    assert not GRAPH.weights["3.weight"].is_output
    assert ModelGraph.from_json(GRAPH.to_json()).to_json() == GRAPH.to_json()


@given(UNITS, UNITS)
def test_removals_add_up(first: set[int], second: set[int]) -> None:
    if len(first | second) == 6:
        with pytest.raises(StructureError, match="no unit of `0` would remain"):
            DENSE.remove("0", first).remove("0", second)
        return
    both = DENSE.remove("0", first).remove("0", second)
    assert both == DENSE.remove("0", first | second)
    assert both == DENSE.remove("0", first).intersect(DENSE.remove("0", second))
    assert (both.digest() == DENSE.digest()) == (not first | second)
    assert ("0" in both.kept) == bool(first | second)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(UNITS, st.integers(0, 2**32), st.booleans())
def test_structures_can_be_saved_and_loaded(tmp_path, removed: set[int], seed: int, block: bool) -> None:
    mask = np.random.default_rng(seed).random(GRAPH.parameters["3.weight"]) < 0.5
    structure = DENSE.remove("0", removed).with_masks({"3.weight": mask})
    structure = structure.remove_block("3") if block else structure
    structure.save(tmp_path / "ticket.safetensors")
    back = Structure.load(tmp_path / "ticket.safetensors")
    assert back == structure
    assert remaining_weights(GRAPH, back) == remaining_weights(GRAPH, structure)


def test_invalid_removals_and_files_are_errors(tmp_path) -> None:
    with pytest.raises(StructureError, match="output"):
        DENSE.remove("6", [0])
    with pytest.raises(StructureError, match="no channel group `7`"):
        DENSE.remove("7", [0])
    with pytest.raises(StructureError, match="units 0 to 5"):
        DENSE.remove("0", [6])
    with pytest.raises(StructureError, match="cannot be removed: reads the network's input"):
        DENSE.remove_block("0")
    with pytest.raises(StructureError, match="boolean of shape"):
        DENSE.with_masks({"3.weight": np.ones((6, 6, 3, 3))})
    with pytest.raises(UnknownNameError, match="no channel group"):
        GRAPH.group("77")
    other = trace(nn.Linear(2, 2), torch.zeros(1, 2))
    with pytest.raises(StructureError, match="another network"):
        kept_indices(other, DENSE, "weight")
    (tmp_path / "no").write_bytes(b"nothing")
    for name in ("no", "missing"):
        with pytest.raises(StructureError, match="not a structure file"):
            Structure.load(tmp_path / name)


def test_a_structure_still_fits_once_a_reason_is_reworded() -> None:
    extent = attrs.evolve(
        DENSE.extent,
        fixed=dict.fromkeys(DENSE.extent.fixed, "another text"),
        blocks={name: reason and "another text" for name, reason in DENSE.extent.blocks.items()},
    )
    assert kept_indices(GRAPH, attrs.evolve(DENSE, extent=extent).remove("0", [1]), "0.weight")[0].tolist() == [
        0, 2, 3, 4, 5,
    ]  # fmt: skip


@given(UNITS, UNITS, st.integers(0, 2**32))
def test_slices_of_slices_are_slices(first: set[int], second: set[int], seed: int) -> None:
    """Rewinding: slicing the weights of the dense network in two steps or in one gives the same."""
    if len(first | second) > 5:
        return
    mask = np.random.default_rng(seed).random(GRAPH.parameters["3.weight"]) < 0.7
    between, last = DENSE.remove("0", first), DENSE.remove("0", first | second).remove("3", second)
    direct = slice_state_dict(GRAPH, MODEL.state_dict(), DENSE, last)
    stepwise = slice_state_dict(GRAPH, slice_state_dict(GRAPH, MODEL.state_dict(), DENSE, between), between, last)
    small = compact(MODEL, GRAPH, last)
    for name, tensor in small.state_dict().items():
        assert torch.equal(direct[name], tensor)
        assert torch.equal(stepwise[name], tensor)
    if second - first:
        with pytest.raises(StructureError, match="do not have"):
            slice_state_dict(GRAPH, small.state_dict(), last, between)
    masked = last.with_masks({"3.weight": mask})
    masks = compact_masks(GRAPH, masked)
    weight = compact(MODEL, GRAPH, masked).get_parameter("3.weight")
    assert masks["3.weight"].shape == weight.shape
    assert bool((weight[~masks["3.weight"]] == 0).all())
    assert torch.equal(weight[masks["3.weight"]], small.get_parameter("3.weight")[masks["3.weight"]])
    assert remaining_weights(GRAPH, masked)["3.weight"] == (int(masks["3.weight"].sum()), 6 * 6 * 9)


def test_a_removed_block_ties_the_channels_around_it() -> None:
    structure = DENSE.remove_block("3").remove("0", [1]).remove("3", [4])
    assert [list(kept_indices(GRAPH, structure, name)[0]) for name in ("0.weight",)] == [[0, 2, 3, 5]]
    assert remaining_weights(GRAPH, structure)["3.weight"][0] == 0
    small = compact(MODEL, GRAPH, structure)
    assert isinstance(small[3], nn.Identity)
    assert small(torch.zeros(1, 2, 8, 8, dtype=torch.float64)).shape == (1, 4)
    with pytest.raises(StructureError, match="in common"):
        compact(MODEL, GRAPH, DENSE.remove_block("3").remove("0", [0, 1, 2]).remove("3", [3, 4, 5]))


def test_nested_blocks_are_removed_together() -> None:
    inner = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())
    model = nn.Sequential(nn.Conv2d(2, 4, 1), nn.Sequential(inner, nn.Conv2d(4, 4, 1)), nn.Conv2d(4, 2, 1))
    graph = trace(model, torch.zeros(1, 2, 4, 4))
    assert {block.name: block.parent for block in graph.blocks if block.reason is None} == {
        "1": None,
        "1.0": "1",
        "1.1": "1",
    }
    assert {block.name for block in graph.layers} == {"1.0", "1.1"}
    structure = Structure.dense(graph).remove_block("1").remove_block("1.0").remove_block("1.1")
    small = compact(model, graph, structure)
    x = torch.randn(1, 2, 4, 4)
    assert torch.equal(small(x), model[2](model[0](x)))


def test_remaining_weights_counts_removed_inputs() -> None:
    structure = random_thinning(GRAPH, 0.5)
    kept, dense = remaining_weights(GRAPH, structure)["6.weight"]
    assert (kept, dense) == (4 * 3 * 36, 4 * 6 * 36)


class _Added(nn.Module):
    """A residual block that adds its input in place to the output of its branch."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        y = self.branch(x)
        y += x
        return y


def test_code_after_a_removed_block_may_write_in_place() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 1), _Added(), nn.Conv2d(4, 2, 1))
    x = torch.randn(1, 2, 4, 4)
    graph = trace(model, x)
    small = compact(model, graph, Structure.dense(graph).remove_block("1.branch"))
    outputs = []
    small[0].register_forward_hook(lambda _module, _args, result: outputs.append((result, result.clone())))
    assert torch.equal(small(x), model[2](2 * model[0](x)))
    assert torch.equal(*outputs[0]), "the output of the preceding block was overwritten"
    small(x).sum().backward()


def test_a_norm_without_parameters_knows_its_width() -> None:
    model = nn.Sequential(nn.Conv2d(2, 6, 1), nn.InstanceNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 1))
    graph = trace(model, torch.zeros(1, 2, 4, 4))
    assert compact(model, graph, Structure.dense(graph).remove("0", [1, 2]))[1].num_features == 4


def test_equal_structures_have_equal_files(tmp_path) -> None:
    structure = DENSE.remove("0", {1, 4}).remove("3", {0})
    contents = set()
    for number in range(8):
        structure.save(tmp_path / str(number))
        contents.add((tmp_path / str(number)).read_bytes())
        assert Structure.load(tmp_path / str(number)) == structure
    assert len(contents) == 1


def test_a_structure_that_cannot_be_written_says_why(tmp_path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        DENSE.save(tmp_path / "no" / "folder")
    assert caught.value.filename == str(tmp_path / "no" / "folder")


def test_a_coupled_layer_leads_to_its_group() -> None:
    layer = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1))
    graph = trace(nn.Sequential(nn.Conv2d(3, 6, 1), Residual(layer), nn.Conv2d(6, 2, 1)), torch.zeros(1, 3, 8, 8))
    hint = "its channels belong to `0`, and are removed together with that group's"
    for lookup in (lambda name: Structure.dense(graph).remove(name, [1]), graph.group):
        with pytest.raises((StructureError, UnknownNameError), match=r"no channel group `1\.layer\.2`") as caught:
            lookup("1.layer.2")
        assert caught.value.hint == hint
        with pytest.raises((StructureError, UnknownNameError)) as caught:
            lookup("1.layer.0x")
        assert caught.value.hint == "did you mean `1.layer.0`?"


class Residual(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layer(x)


def test_representations_are_short() -> None:
    assert repr(GRAPH) == "<ModelGraph: 3 weights, 2 of 3 channel groups removable, 1 layer>"
    assert repr(DENSE.remove("0", [1])) == "<Structure: units removed from 1 channel group, 0 blocks removed, 0 masks>"
