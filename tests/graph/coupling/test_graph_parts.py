"""A slice of the channels that is read alone keeps a unit, whatever chooses the units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from graph_oracle import check_exact, make_weights_distinct
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tickdsl.graph import ModelGraph, Structure, StructureError, trace
from tickdsl.graph.indexing import kept_units
from tickdsl.pruning.overlap import overlap
from tickdsl.pruning.random_structure import random_structure
from tickdsl.pruning.selection import guard_parts, lowest_positions


class Moved(nn.Module):
    """A quarter of the channels moves up, a quarter down, and the rest stays."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        quarter = x.shape[1] // 4
        y = torch.zeros_like(x)
        y[:, :quarter, 1:] = x[:, :quarter, :-1]
        y[:, quarter : 2 * quarter, :-1] = x[:, quarter : 2 * quarter, 1:]
        y[:, 2 * quarter :] = x[:, 2 * quarter :]
        return self.head(y)


IMAGES = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
MODEL = make_weights_distinct(Moved().double()).eval()
GRAPH = ModelGraph.from_json(trace(MODEL, IMAGES).to_json())
DENSE = Structure.dense(GRAPH)
PARTS = [{0, 1, 2}, {3, 4, 5}, {6, 7, 8, 9, 10, 11}]


def kept(structure: Structure) -> set[int]:
    mask = kept_units(GRAPH, structure).get("stem", np.ones(12, dtype=bool))
    return set(np.flatnonzero(mask).tolist())


def test_the_slices_that_are_read_alone_are_known() -> None:
    assert [set(part.tolist()) for part in GRAPH.group("stem").parts] == PARTS
    assert GRAPH.group("head").parts == ()


def test_a_slice_cannot_be_emptied(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match="`stem` must keep one of its units 3 to 5, which the network reads alone"):
        DENSE.remove("stem", [0, 3, 4, 5])
    with pytest.raises(StructureError, match="units 0 to 2"):
        DENSE.remove("stem", [0, 1]).intersect(DENSE.remove("stem", [2]))
    smallest = DENSE.remove("stem", [0, 1, 3, 4, 6, 7, 8, 9, 10])
    check_exact(MODEL, GRAPH, smallest, IMAGES)
    smallest.save(tmp_path / "structure")
    assert Structure.load(tmp_path / "structure") == smallest


@given(st.integers(0, 2**32), st.integers(3, 11), st.integers(3, 11))
def test_no_choice_empties_a_slice(seed: int, first_count: int, second_count: int) -> None:
    """Whatever the scores, random draws and votes are."""
    rng = torch.Generator().manual_seed(seed)
    tickets = []
    for count in (first_count, second_count):
        scores = guard_parts(torch.rand(12, generator=rng), GRAPH.group("stem").parts, minimum=3)
        tickets.append(DENSE.remove("stem", lowest_positions(scores, 12 - count)))
        assert len(kept(tickets[-1])) == count
    drawn = random_structure(GRAPH, tickets[0], rng)
    assert len(kept(drawn)) == first_count
    for structure in (*tickets, drawn, overlap(GRAPH, tickets, 2)):
        assert all(kept(structure) & part for part in PARTS)


def test_guards_overlap() -> None:
    parts = [np.array([0, 1]), np.array([1, 2]), np.array([2, 3])]
    scores = guard_parts(torch.tensor([1.0, 5.0, 0.5, 0.0, 9.0]), parts, minimum=3)
    assert torch.isinf(scores).tolist() == [False, True, True, False, True]


def test_layers_without_slices_have_no_parts() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3, groups=4))
    graph = trace(network, torch.zeros(1, 3, 8, 8))
    assert all(group.parts == () for group in graph.channels)
