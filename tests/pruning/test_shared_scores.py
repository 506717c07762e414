"""Scores that several processes compute together: those of one process, up to the order of sums."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
import torch
from criteria_helpers import catalogue_model, make_subject, random_batches, with_random_batch_norms
from rank_processes import run_on_ranks
from torch import Tensor, nn

from tickdsl.errors import TickdslError
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact_masks
from tickdsl.pruning.criteria import CRITERIA, Batch, Criterion, Sample, ScoringContext, get_criterion
from tickdsl.pruning.criteria.shared_batches import scores_together
from tickdsl.pruning.growth import grow_weights
from tickdsl.pruning.refill import refill_filters
from tickdsl.pruning.remaining_units import remaining_groups
from tickdsl.pruning.selection import prune
from tickdsl.training.parallel.ranks import Ranks

pytestmark = pytest.mark.slow

SHARED = [name for name, criterion in CRITERIA.items() if criterion.shares_batches]
#: The units that a score is tried on; `filters` also on a network whose filters and weights are partly gone.
UNITS = ("weights", "filters", "layers")
STATES = {"dense": False, "pruned": True}


@functools.cache
def subject() -> tuple[nn.Module, ModelGraph]:
    """A residual network in float64, so that nothing but the order of sums can hide a difference."""
    module, graph = catalogue_model("resnet20", width=0.25)
    return with_random_batch_norms(module).double(), graph


@functools.cache
def pruned_structure() -> Structure:
    """Filters are gone, and of what is left, weights."""
    smaller = prune(make_subject(*subject()), {"unit": "filters", "scope": "local", "by": "l1", "share": 0.3})
    context = make_subject(*subject(), structure=smaller)
    return prune(context, {"unit": "weights", "scope": "global", "by": "magnitude", "share": 0.4})


class Recorded(Sequence[Batch]):
    """Batches that note which of them are read."""

    def __init__(self, batches: list[Batch]) -> None:
        self._batches = batches
        self.read: set[int] = set()

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: Any) -> Any:
        assert isinstance(index, int)
        batch = self._batches[index]
        self.read.add(index)
        return batch


def batches(count: int = 5) -> Recorded:
    """Batches of unequal sizes."""
    return Recorded(random_batches(5 * count - 2, dtype=torch.float64, batches=count))


def context_of(ranks: Ranks | None, *, is_pruned: bool = False, drawn: Recorded | None = None) -> ScoringContext:
    structure = pruned_structure() if is_pruned else None
    context = make_subject(*subject(), structure=structure, batches=batches() if drawn is None else drawn)
    return attrs.evolve(context, ranks=ranks)


def score(name: str | Criterion, unit: str, context: ScoringContext) -> list[Tensor]:
    criterion, graph = get_criterion(name), context.graph
    if unit == "weights":
        return scores_together(criterion, context, lambda one: criterion.weights(one, list(graph.weights)[:-1]))
    if unit == "layers":
        return [scores_together(criterion, context, lambda one: criterion.layers(one, graph.layers[:3]))]
    groups = [group for group in remaining_groups(graph, context.structure) if not group.reason]
    return scores_together(criterion, context, lambda one: criterion.channels(one, groups))


def all_scores(ranks: Ranks | None) -> dict[str, list[Tensor]]:
    """The scores by each criterion, of each of its units and in each state of the network."""
    return {
        f"{name} of {unit}, {state}": score(name, unit, context_of(ranks, is_pruned=is_pruned))
        for name in SHARED
        for unit in UNITS
        if unit in CRITERIA[name].units
        for state, is_pruned in STATES.items()
        if not (is_pruned and unit == "layers")
    }


@functools.cache
def alone() -> dict[str, list[Tensor]]:
    return all_scores(None)


@pytest.mark.parametrize("size", [2, 4])
def test_several_processes_score_as_one(size: int) -> None:
    expected = alone()
    assert len(expected) >= 20
    for found in run_on_ranks(size, all_scores):
        assert found.keys() == expected.keys()
        for name, scores in found.items():
            for one, other in zip(scores, expected[name], strict=True):
                assert one.dtype == torch.float64 and not one.is_cuda
                torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12 * float(other.abs().max()), msg=name)


def what_is_read(ranks: Ranks) -> list[set[int]]:
    """The batches that are read by each criterion that shares them."""
    read = []
    for name in SHARED:
        drawn = batches()
        score(name, next(unit for unit in UNITS if unit in CRITERIA[name].units), context_of(ranks, drawn=drawn))
        read.append(drawn.read)
    return read


def test_each_process_reads_its_own_batches() -> None:
    first, second = run_on_ranks(2, what_is_read)
    by_name = dict(zip(SHARED, zip(first, second, strict=True), strict=True))
    assert by_name.pop("grasp-halves") == ({0, 1, 2, 3, 4}, {0, 1, 2, 3, 4})  # it sorts all images by their classes
    assert set(map(str, by_name.values())) == {"({0, 1, 2}, {3, 4})"}


class Counting(Criterion):
    """A criterion of one's own, which counts its calls and can fail."""

    name = "counting"
    units = ("weights",)
    needs = ("data",)

    def __init__(self, *, fails: bool = False) -> None:
        self.calls, self.fails = 0, fails

    def weights(self, context: ScoringContext, names: Sequence[str]) -> list[Tensor]:
        self.calls += 1
        assert context.ranks is None
        if self.fails:
            raise TickdslError("no scores today", "come back tomorrow")
        images = torch.cat([images for images, _ in context.batches(Sample())])
        return [images.sum() * torch.arange(context.state[name].numel()).double() for name in names]


class CountingSnip(type(CRITERIA["snip"])):  # type: ignore[misc]
    calls = 0

    def weights(self, context: ScoringContext, names: Sequence[str]) -> list[Tensor]:
        self.calls += 1
        assert context.ranks is None
        found: list[Tensor] = super().weights(context, names)
        return found


def by_the_first(ranks: Ranks) -> list[Any]:
    """Calls and scores of a criterion of one's own, and of one whose network draws; and how a failure is told."""
    own, snip, failing = Counting(), CountingSnip(), Counting(fails=True)
    drawing = attrs.evolve(context_of(ranks), draws=True)
    names = list(drawing.graph.weights)[:3]
    scores = [
        scores_together(own, context_of(ranks), lambda one: own.weights(one, names)),
        scores_together(snip, drawing, lambda one: snip.weights(one, names)),
    ]
    with pytest.raises(Exception, match="no scores today") as caught:
        scores_together(failing, context_of(ranks), lambda one: failing.weights(one, names))
    return [own.calls, snip.calls, scores, type(caught.value).__name__]


def test_one_process_scores_for_all_where_batches_are_not_shared() -> None:
    first, second = run_on_ranks(2, by_the_first)
    assert (first[0], first[1], first[3]) == (1, 1, "TickdslError")
    assert (second[0], second[1], second[3]) == (0, 0, "RuntimeError")
    for one, other in zip(first[2], second[2], strict=True):
        assert all(map(torch.equal, one, other))


def fewer_batches(ranks: Ranks | None) -> list[Tensor]:
    return score("taylor", "weights", context_of(ranks, drawn=batches(2)))


def test_fewer_batches_than_processes() -> None:
    expected = fewer_batches(None)
    for found in run_on_ranks(3, fewer_batches):
        assert all(map(torch.equal, found, expected))


def masks_of(structure: Structure) -> dict[str, Tensor]:
    return dict(compact_masks(subject()[1], structure))


def grown_and_refilled(ranks: Ranks | None) -> list[dict[str, Tensor]]:
    """The masks after weights have come back by their gradients, and after whole filters by their saliency."""
    weights = prune(make_subject(*subject()), {"unit": "weights", "scope": "global", "by": "magnitude", "share": 0.6})
    context = attrs.evolve(make_subject(*subject(), structure=weights), ranks=ranks)
    drawn = batches()
    grown = grow_weights(context, {"share": 0.3, "by": "gradient"}, {}, drawn)
    assert ranks is None or len(drawn.read) < len(drawn)
    return [masks_of(grown), masks_of(refill_filters(context, {"by": "saliency"}, batches()))]


def test_growing_and_refilling_share_their_batches() -> None:
    expected = grown_and_refilled(None)
    assert not all(map(torch.equal, expected[0].values(), expected[1].values()))
    for found in run_on_ranks(2, grown_and_refilled):
        for one, other in zip(found, expected, strict=True):
            assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
