"""Random networks of supported operators: removal is exact."""

from __future__ import annotations

import networkx as nx
import numpy as np
import torch
from graph_oracle import make_weights_distinct, random_thinning, relative_difference, zeroed_reference
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import STEPS, RandomNetwork

from tickdsl.graph import compact, cost, trace
from tickdsl.graph.coupling.atom_constraints import AtomConstraints
from tickdsl.graph.coupling.families import reshape_family, squeeze_uniform


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(STEPS), min_size=1, max_size=8), st.integers(0, 1000), st.sampled_from([0.3, 0.5, 0.8]))
def test_removal_is_exact_for_random_networks(steps: list[str], seed: int, share: float) -> None:
    model = make_weights_distinct(RandomNetwork(steps, seed).double(), seed).eval()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    graph = trace(model, x)
    assert graph.unknown == ()
    structure = random_thinning(graph, share, seed)
    small = compact(model, graph, structure)
    with torch.no_grad():
        assert relative_difference(small(x), zeroed_reference(model, graph, structure)(x)) < 1e-9
    assert cost(graph, structure).params == sum(parameter.numel() for parameter in small.parameters())
    free = sum(group.reason is None for group in graph.channels)
    assert free >= 1, "the stem at least can shrink"


PAIRS = st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=40)


@given(PAIRS)
def test_components_are_those_of_a_graph(pairs: list[tuple[int, int]]) -> None:
    atoms = AtomConstraints()
    every = atoms.new_atoms(30)
    graph = nx.Graph()
    graph.add_nodes_from(range(30))
    for one, other in pairs:
        atoms.unify(every[[one]], every[[other]])
        graph.add_edge(one, other)
    root = atoms.solve().root
    for component in nx.connected_components(graph):
        assert {int(root[node]) for node in component} == {min(component)}


@st.composite
def reshapes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes of the same size: the same factors, grouped differently."""
    factors = draw(st.lists(st.integers(1, 4), min_size=1, max_size=6))

    def gather() -> tuple[int, ...]:
        shape = [1]
        for factor in factors:
            if draw(st.booleans()):
                shape.append(factor)
            else:
                shape[-1] *= factor
        return tuple(shape)

    return gather(), gather()


@given(reshapes(), st.integers(0, 5))
def test_reshaping_a_family_matches_reshaping_its_tensor(shapes, index: int) -> None:
    shape, target = shapes
    dim = index % len(shape)
    family = np.arange(shape[dim]).reshape([size if d == dim else 1 for d, size in enumerate(shape)])
    moved = reshape_family(family, shape, target)
    assert np.array_equal(np.broadcast_to(moved, target), np.broadcast_to(family, shape).reshape(target))
    assert np.array_equal(squeeze_uniform(moved), moved)
