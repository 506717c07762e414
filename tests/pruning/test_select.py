"""Selection on real networks: exact counts, coupled units, lowest scores first, overlap and transfer."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tickdsl.errors import TickdslError
from tickdsl.graph.indexing import remaining_weights
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact, compact_masks, slice_state_dict
from tickdsl.graph.tracing.trace import trace
from tickdsl.pruning.amounts import round_half_up
from tickdsl.pruning.criteria import ScoringContext
from tickdsl.pruning.overlap import overlap
from tickdsl.pruning.remaining_units import remaining_units
from tickdsl.pruning.selection import lowest_positions, prune
from tickdsl.pruning.transfer import transfer_structure
from tickdsl.training.models import create

SHAPES = {"small-cnn": (1, 8, 8), "resnet20": (3, 16, 16), "vgg11": (3, 32, 32), "lenet-300-100": (1, 8, 8)}


@functools.cache
def network(name: str, classes: int = 10) -> tuple[torch.nn.Module, ModelGraph]:
    options = {} if name == "small-cnn" else {"width": 0.25}
    module = create(name, classes=classes, shape=SHAPES[name], seed=1, options=options)
    return module, trace(module, (torch.zeros(2, *SHAPES[name]),))


def rounds(name: str, *steps: dict, seed: int = 0) -> list[Structure]:
    module, graph = network(name)
    dense = Structure.dense(graph)
    structures = [dense]
    for step in steps:
        state = slice_state_dict(graph, module.state_dict(), dense, structures[-1])
        structures.append(
            prune(ScoringContext(graph, structures[-1], state, torch.Generator().manual_seed(seed)), step)
        )
    return structures


def args(unit: str, scope: str = "global", by: str = "l2", **more: object) -> dict:
    return {"unit": unit, "scope": scope, "by": by, **more}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("scope", ["global", "local"])
def test_weight_rounds_leave_exact_counts(name: str, scope: str) -> None:
    _, graph = network(name)
    step = args("weights", scope, "magnitude", share=0.2)
    remaining = {n: pair[0] for n, pair in remaining_weights(graph, Structure.dense(graph)).items()}
    for structure in rounds(name, step, step, step)[1:]:
        now = {n: pair[0] for n, pair in remaining_weights(graph, structure).items()}
        if scope == "local":
            assert now == {n: count - min(round_half_up(0.2 * count), count - 1) for n, count in remaining.items()}
        else:
            assert sum(now.values()) == sum(remaining.values()) - round_half_up(0.2 * sum(remaining.values()))
        remaining = now


def test_the_published_labels_of_lenet() -> None:
    """20% per layer, 10% of the output layer (Frankle & Carbin 2019): 80.0, 51.3, 21.1, 13.5, 7.0, 3.6% remain."""
    module = create("lenet-300-100", classes=10, shape=(1, 28, 28), seed=1)
    graph = trace(module, (torch.zeros(2, 1, 28, 28),))
    structure = Structure.dense(graph)
    labels = {}
    for number in range(1, 16):
        for step in (
            args("weights", "local", "random", share=0.2, protect=["fc3"]),
            args("weights", "local", "random", share=0.1, within=["fc3"]),
        ):
            structure = prune(
                ScoringContext(graph, structure, module.state_dict(), torch.Generator().manual_seed(number)), step
            )
        counts = remaining_weights(graph, structure)
        labels[number] = round(100 * sum(k for k, _ in counts.values()) / sum(d for _, d in counts.values()), 1)
    assert [labels[n] for n in (1, 3, 7, 9, 12, 15)] == [80.0, 51.3, 21.1, 13.5, 7.0, 3.6]


def test_the_smallest_weights_go_first() -> None:
    module, graph = network("small-cnn")
    structure = rounds("small-cnn", args("weights", "global", "magnitude", share=0.5))[-1]
    state = module.state_dict()
    removed, kept = [], []
    for name in graph.weights:
        mask = torch.from_numpy(structure.masks[name].copy())
        removed.append(state[name].abs()[~mask])
        kept.append(state[name].abs()[mask])
    assert torch.cat(removed).max() <= torch.cat(kept).min()


@pytest.mark.parametrize("name", ["small-cnn", "resnet20", "vgg11"])
@pytest.mark.parametrize("by", ["l1", "l2", "magnitude", "bn-scale", "random"])
@pytest.mark.parametrize("scope", ["global", "local"])
def test_filter_rounds_shrink_the_network_and_it_still_runs(name: str, by: str, scope: str) -> None:
    module, graph = network(name)
    step = args("filters", scope, by, share=0.3)
    before = sum(p.numel() for p in module.parameters())
    for structure in rounds(name, step, step)[1:]:
        small = compact(module, graph, structure)
        after = sum(p.numel() for p in small.parameters())
        assert after < before
        assert small.eval()(torch.randn(2, *SHAPES[name])).shape == (2, 10)
        before = after


def test_rounds_of_layers_add_up() -> None:
    module, graph = network("resnet20")
    assert len(graph.layers) == 7
    structure = rounds("resnet20", args("layers", by="random", count=2), args("layers", by="l1", count=3))[-1]
    assert len(structure.removed_blocks) == 5
    small = compact(module, graph, structure)
    assert small.eval()(torch.randn(2, *SHAPES["resnet20"])).shape == (2, 10)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in module.parameters())


def test_filters_of_a_network_that_lost_layers() -> None:
    module, graph = network("resnet20")
    first = args("layers", by="random", count=3)
    structure = rounds("resnet20", first, args("filters", "global", "l2", share=0.3), args("filters", share=0.3))[-1]
    assert compact(module, graph, structure).eval()(torch.randn(2, *SHAPES["resnet20"])).shape == (2, 10)


def test_neurons_are_those_of_linear_layers() -> None:
    module, graph = network("lenet-300-100")
    structure = rounds("lenet-300-100", args("neurons", "local", share=0.5))[-1]
    small = compact(module, graph, structure)
    assert (small.fc1.out_features, small.fc2.in_features) == (37, 37)
    with pytest.raises(TickdslError, match="nothing to prune"):
        rounds("lenet-300-100", args("filters", share=0.5))


def test_coupled_layers_are_protected_together() -> None:
    structure = rounds("resnet20", args("filters", "local", share=0.5, protect=["layer1.0.conv2"]))[-1]
    assert "conv1" not in structure.kept
    assert "layer1.0.conv1" in structure.kept


def test_a_round_that_changes_nothing_is_an_error() -> None:
    with pytest.raises(TickdslError, match="would remove nothing"):
        rounds("small-cnn", args("filters", "local", share=0.01))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(0, 60))
def test_lowest_takes_the_lowest_and_breaks_ties_by_place(values: list[int], count: int) -> None:
    scores = torch.tensor(values, dtype=torch.float64)
    expected = sorted(sorted(range(len(values)), key=lambda i: (values[i], i))[:count])
    assert lowest_positions(scores, count).tolist() == expected


@given(st.integers(1, 20_000), st.integers(1, 50), st.floats(0, 1), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_lowest_of_many_is_the_start_of_a_stable_sort(size: int, levels: int, share: float, seed: int) -> None:
    drawn = torch.rand(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    scores = (drawn * levels).floor() if levels < 40 else drawn
    expected = torch.sort(torch.sort(scores, stable=True).indices[: int(share * size)]).values
    assert lowest_positions(scores, int(share * size)).tolist() == expected.tolist()


@given(st.integers(0, 10**6), st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_overlap_keeps_units_kept_by_enough_parts(seed: int, at_least: int) -> None:
    _, graph = network("small-cnn")
    parts = [
        rounds(
            "small-cnn", args("weights", "global", "random", share=0.4), args("filters", by="random", share=0.3), seed=s
        )[-1]
        for s in (seed, seed + 1, seed + 2)
    ]
    common = overlap(graph, parts, at_least)
    for name in graph.weights:
        votes = sum(part.masks[name].astype(int) for part in parts)
        mask = common.masks.get(name, np.ones_like(votes, dtype=bool))  # a layer that keeps everything has no mask
        assert (mask == (votes >= min(at_least, votes.max()))).all()
    for group in graph.channels:
        if group.reason is None:
            kept = [set(remaining_units(graph, part, group.name).tolist()) for part in parts]
            expected = {u for u in range(group.size) if sum(u in k for k in kept) >= at_least}
            assert set(remaining_units(graph, common, group.name).tolist()) == expected or not expected


def test_a_ticket_transfers_to_another_classifier() -> None:
    _, half = network("small-cnn", classes=5)
    _, graph = network("small-cnn")
    structure = rounds(
        "small-cnn", args("filters", share=0.3), args("weights", by="magnitude", share=0.3, protect=["fc"])
    )[-1]
    transferred = transfer_structure(structure, half)
    assert transfer_structure(transferred, graph) == structure
    assert set(compact_masks(half, transferred)) == set(compact_masks(graph, structure))
