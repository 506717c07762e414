"""Searches of amounts: they end at the amount, find what exhaustive search finds, and share their evaluations."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import attrs
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_select import args, network

from tickdsl.errors import TickdslError
from tickdsl.graph.indexing import remaining_weights
from tickdsl.graph.structure import Structure
from tickdsl.pruning.allocation_search import FoundAllocation, Judgement, search_allocation
from tickdsl.pruning.cost_targets import COUNTS
from tickdsl.pruning.criteria import ScoringContext
from tickdsl.pruning.rounds import prune
from tickdsl.pruning.search_budget import evaluations_of, fewest_evaluations, probes, searched_parts, too_few
from tickdsl.pruning.search_space import Counts, SearchSpace, search_space
from tickdsl.pruning.sensitivity import marginal_rises

SIZES = st.lists(st.integers(0, 300), min_size=1, max_size=30)


def scoring(name: str) -> ScoringContext:
    module, graph = network(name)
    return ScoringContext(graph, Structure.dense(graph), module.state_dict(), torch.Generator().manual_seed(0))


def bowl(sizes: Counts, seed: int) -> Callable[[Counts], Judgement]:
    """A made-up loss: every part has a convex curve of its own."""
    draws = np.random.RandomState(seed)
    heights, powers = draws.exponential(size=len(sizes)), 1.2 + 2 * draws.rand(len(sizes))

    def judge(counts: Counts) -> Judgement:
        shares = np.array(counts) / np.maximum(1, sizes)
        loss = float((heights * shares**powers).sum())
        return Judgement(-loss, loss)

    return judge


@attrs.define
class Recorder:
    """Records what is evaluated."""

    judge: Callable[[Counts], Judgement]
    asked: list[Counts] = attrs.field(factory=list)

    def __call__(self, counts: Counts) -> Judgement:
        self.asked.append(counts)
        return self.judge(counts)


@attrs.frozen
class Linear:
    """A space in which every entry of a part costs the same, and `needed` has to be saved."""

    costs: tuple[int, ...]
    sizes: Counts
    needed: int

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(map(str, range(len(self.sizes))))

    @property
    def scores(self) -> list[np.ndarray]:
        return [np.arange(size, dtype=float) for size in self.sizes]

    def grid(self, part: int) -> np.ndarray:
        return np.arange(self.sizes[part]) + 0.5

    def cut(self, keys: Sequence[np.ndarray]) -> Counts:
        entries = sorted((key, part) for part, own in enumerate(keys) for key in own)
        counts, saved = [0] * len(self.sizes), 0
        for _, part in entries:
            if saved >= self.needed:
                break
            counts[part] += 1
            saved += self.costs[part]
        return tuple(counts)

    def structure(self, counts: Counts) -> Structure:
        raise NotImplementedError

    def savings(self, counts: Counts) -> np.ndarray:
        return np.array(self.costs, dtype=float)


def optimum(space: Linear, judge: Callable[[Counts], Judgement]) -> float:
    """The lowest loss of all counts that save enough, by looking at all of them."""
    ranges = [range(size + 1) for size in space.sizes]
    losses = [
        judge(counts).loss
        for counts in itertools.product(*ranges)
        if sum(c * n for c, n in zip(space.costs, counts, strict=True)) >= space.needed
    ]
    return min(losses)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(2, 12)), min_size=2, max_size=4),
    st.floats(0.1, 0.9),
    st.integers(0, 10_000),
)
def test_the_best_of_all_amounts_is_nearly_found(parts: list[tuple[int, int]], share: float, seed: int) -> None:
    costs, sizes = tuple(cost for cost, _ in parts), tuple(size for _, size in parts)
    space = Linear(costs, sizes, math.ceil(share * sum(c * n for c, n in parts)))
    judge = Recorder(bowl(sizes, seed))
    found = search_allocation(space, judge)
    best, worst = optimum(space, judge.judge), judge.judge(sizes).loss
    # One entry more or less is a large share of parts of a few units.
    alone = [judge.judge(tuple(n if i == j else 0 for j, n in enumerate(sizes))).loss for i in range(len(sizes))]
    entry = max(loss / size for loss, size in zip(alone, sizes, strict=True))
    assert judge.judge(found.counts).loss <= best + 0.05 * worst + 3 * entry


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 0.9), st.none() | st.integers(8, 80))
def test_a_search_keeps_its_promises(seed: int, share: float, requested: int | None) -> None:
    draws = np.random.RandomState(seed)
    sizes = tuple(int(size) for size in draws.randint(1, 40, 5))
    costs = tuple(int(cost) for cost in draws.randint(1, 20, 5))
    space = Linear(costs, sizes, math.ceil(share * sum(c * n for c, n in zip(costs, sizes, strict=True))))
    judge = Recorder(bowl(sizes, seed))
    found = search_allocation(space, judge, requested)
    assert len(judge.asked) == len(set(judge.asked))  # nothing is evaluated twice
    assert len(judge.asked) <= evaluations_of(sizes, requested)
    for other in found.alternatives.values():
        assert judge.judge(found.counts).score >= judge.judge(other).score
    if requested is None:
        assert found.alternatives.keys() == {"local", "global"}
    again = search_allocation(space, bowl(sizes, seed), requested)
    assert again == found


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(10, 400), st.integers(0, 200))
def test_more_evaluations_repeat_those_of_fewer(sizes: list[int], evaluations: int, more: int) -> None:
    few, many = probes(sizes, evaluations), probes(sizes, evaluations + more)
    assert len(few) == len(set(few))
    assert set(few) <= set(many)
    assert all(1 <= count <= sizes[part] for part, count in few)
    if too_few(sizes, evaluations) is None:
        assert {part for part, _ in few} == {part for part, size in enumerate(sizes) if size}
        assert len(few) + 1 + 2 <= evaluations


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.dictionaries(st.integers(1, 200), st.floats(-1, 5), min_size=1, max_size=6))
def test_curves_rise_more_and_more(size: int, measured: dict[int, float]) -> None:
    measured = {count: rise for count, rise in measured.items() if count <= size}
    assume(measured)
    slopes = marginal_rises(measured, size, np.arange(size) + 0.5)
    assert (slopes >= 0).all()
    assert (np.diff(slopes) >= -1e-9).all()


def test_a_straight_line_is_followed() -> None:
    slopes = marginal_rises({4: 1.0, 8: 2.0, 12: 3.0, 16: 4.0}, 16, np.arange(16) + 0.5)
    assert slopes[2:] == pytest.approx(0.25)


def test_networks_that_break_are_not_chosen() -> None:
    space = Linear((1, 1), (10, 10), 10)

    def judge(counts: Counts) -> Judgement:
        broken = counts[0] > 4
        return Judgement(math.nan if broken else 1.0, math.inf if broken else 0.1 * sum(counts))

    assert search_allocation(space, judge).counts[0] <= 4


def searched(name: str, step: dict, seed: int = 0) -> tuple[SearchSpace, FoundAllocation]:
    space = search_space(scoring(name), step)
    return space, search_allocation(space, bowl(space.sizes, seed))


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(
        [("small-cnn", "filters"), ("resnet20", "filters"), ("resnet20", "layers"), ("vgg11", "filters"),
         ("lenet-300-100", "neurons")]
    ),
    st.sampled_from(["flops", "params"]),
    st.floats(0.05, 0.95),
    st.sampled_from([1, 2]),
    st.integers(0, 1000),
)  # fmt: skip
def test_a_search_ends_within_one_unit_of_its_target(
    network_and_unit: tuple[str, str], cost: str, share: float, multiple: int, seed: int
) -> None:
    name, unit = network_and_unit
    _, graph = network(name)
    step = args(unit, "searched", "l1", to=share, of=cost)
    if multiple > 1 and unit == "filters":
        step["multiple"] = multiple
    try:
        space, found = searched(name, step, seed)
    except TickdslError as error:
        assert "cannot be removed: at most" in error.message
        return
    dense = Structure.dense(graph)
    whole = COUNTS[cost](graph, dense)

    def gone(counts: Counts) -> float:
        return 1 - COUNTS[cost](graph, space.structure(counts)) / whole

    assert gone(found.counts) >= share - 1e-9
    one_less = [
        (*found.counts[:part], count - 1, *found.counts[part + 1 :]) for part, count in enumerate(found.counts) if count
    ]
    assert any(gone(counts) < share for counts in one_less)
    names, sizes = searched_parts(graph, dense, step)
    assert (names, sizes) == (space.names, space.sizes)  # what `plan` knows without scores


@pytest.mark.parametrize("step", [{"to": 0.8}, {"share": 0.3}, {"to": 0.7, "of": "params"}])
def test_weights_end_at_their_amount_exactly(step: dict) -> None:
    space, found = searched("resnet20", args("weights", "searched", "magnitude", **step))
    _, graph = network("resnet20")
    structure = space.structure(found.counts)
    kept = {name: left for name, (left, _) in remaining_weights(graph, structure).items()}
    reference = prune(scoring("resnet20"), args("weights", "global", "magnitude", **step))
    assert sum(kept.values()) == sum(left for left, _ in remaining_weights(graph, reference).values())
    names, sizes = searched_parts(graph, Structure.dense(graph), args("weights", "searched", "magnitude", **step))
    assert (names, sizes) == (space.names, space.sizes)
    lost = dict(zip(space.names, found.counts, strict=True))
    assert {name: graph_weights - lost[name] for name, graph_weights in whole_weights("resnet20").items()} == kept


def whole_weights(name: str) -> dict[str, int]:
    _, graph = network(name)
    return {weight: dense for weight, (_, dense) in remaining_weights(graph, Structure.dense(graph)).items()}


@pytest.mark.parametrize("cost", ["flops", "params"])
@pytest.mark.parametrize("scope", ["local", "global"])
def test_other_scopes_are_among_the_candidates(scope: str, cost: str) -> None:
    step = args("filters", "searched", "l2", to=0.5, of=cost)
    space, found = searched("resnet20", step)
    assert space.structure(found.alternatives[scope]) == prune(scoring("resnet20"), {**step, "scope": scope})


def test_a_count_of_filters_is_divided_among_the_layers() -> None:
    space, found = searched("vgg11", args("filters", "searched", "l2", share=0.25))
    assert sum(found.counts) == round(0.25 * sum(pool_sizes("vgg11")))
    assert space.structure(found.counts) != Structure.dense(network("vgg11")[1])


def pool_sizes(name: str) -> list[int]:
    _, graph = network(name)
    return [group.size for group in graph.channels if group.kind == "filters" and group.reason is None]


def test_too_few_evaluations_are_told() -> None:
    assert fewest_evaluations((5, 0, 7)) == 5
    assert too_few((5, 0, 7), 5) is None
    assert "3 layers" in str(too_few((5, 0, 7), 4))
