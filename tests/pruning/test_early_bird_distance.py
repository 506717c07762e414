"""The distance between structures, and the early-bird detector."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickdsl.engine.building import trace_model
from tickdsl.graph.structure import Structure
from tickdsl.pruning.early_bird import WINDOW, EarlyBirdDetector, mask_distance

GRAPH = trace_model("small-cnn", b"{}", 10, (1, 8, 8))
DENSE = Structure.dense(GRAPH)
WIDEST = max((group for group in GRAPH.channels if group.name not in DENSE.extent.fixed), key=lambda g: g.size)
removed_units = st.sets(st.integers(0, WIDEST.size - 1), max_size=WIDEST.size - 1)


@given(removed_units, removed_units)
def test_the_distance_counts_units_kept_by_one_structure(first: set[int], second: set[int]) -> None:
    left, right = DENSE.remove(WIDEST.name, first), DENSE.remove(WIDEST.name, second)
    assert mask_distance(left, right, 80) == len(first ^ second) / 80
    assert mask_distance(left, right, 80) == mask_distance(right, left, 80)


@given(st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9)))
def test_the_distance_counts_masked_weights(first: set[int], second: set[int]) -> None:
    def masked(places: set[int]) -> Structure:
        mask = np.ones(GRAPH.parameters["fc.weight"], dtype=bool)
        mask.reshape(-1)[list(places)] = False
        return DENSE.with_masks({"fc.weight": mask})

    assert mask_distance(masked(first), masked(second), 320) == len(first ^ second) / 320


def test_a_structure_is_compared_with_the_last_five() -> None:
    detector = EarlyBirdDetector(WIDEST.size)
    changed = DENSE.remove(WIDEST.name, [0])
    assert [detector.max_distance(DENSE) for _ in range(WINDOW)] == [None] * WINDOW
    assert detector.max_distance(DENSE) == 0
    distances = [detector.max_distance(changed), *(detector.max_distance(changed) for _ in range(WINDOW))]
    assert distances == pytest.approx([1 / WIDEST.size] * WINDOW + [0])
