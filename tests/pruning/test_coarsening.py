"""Refill and regroup against the definitions of Chen et al. 2022, computed here on their own."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from criteria_helpers import catalogue_model, make_subject, random_batches, trace_module
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from tickdsl.errors import TickdslError
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.dense_blocks import dense_blocks
from tickdsl.pruning.criteria.protocol import ScoringContext
from tickdsl.pruning.random_structure import random_structure
from tickdsl.pruning.refill import filters_to_fill, refill_filters
from tickdsl.pruning.regroup import dense_columns, find_blocks, partition, regroup_masks

CONVOLUTIONS = ("conv2.weight", "conv3.weight")


def _masked(graph: ModelGraph, density: float, seed: int, names: tuple[str, ...] = CONVOLUTIONS) -> Structure:
    stream = np.random.default_rng(seed)
    masks = {name: stream.random(graph.parameters[name]) < density for name in names}
    return Structure.dense(graph).with_masks(masks)


@pytest.fixture(scope="module")
def subject() -> tuple[nn.Module, ModelGraph]:
    return catalogue_model("small-cnn")


# -- refill


@settings(max_examples=40, deadline=None)
@given(
    density=st.floats(0.02, 0.98),
    seed=st.integers(0, 10**6),
    by=st.sampled_from(["l1", "count"]),
    extra=st.sampled_from([0.0, 0.1, 0.5]),
)
def test_the_best_filters_are_filled_and_the_others_emptied(
    subject: tuple[nn.Module, ModelGraph], density: float, seed: int, by: str, extra: float
) -> None:
    module, graph = subject
    before = _masked(graph, density, seed, (*CONVOLUTIONS, "fc.weight"))
    args = {"by": by, "extra": extra} if extra else {"by": by}
    after = refill_filters(make_subject(module, graph, before), args)
    weights = {name: parameter.detach().double().numpy() for name, parameter in module.named_parameters()}
    for name in CONVOLUTIONS:
        kept = before.masks[name].reshape(len(before.masks[name]), -1)
        rows, size = kept.shape
        score = kept.sum(1) if by == "count" else np.abs(weights[name].reshape(rows, -1) * kept).sum(1)
        exact = Fraction(int(kept.sum()), size)
        exact += Fraction(str(extra)) * (rows - exact)
        count = min(rows, max(1, int(exact + Fraction(1, 2))))
        best = sorted(range(rows), key=lambda row: (-score[row], row))[:count]
        expected = np.zeros_like(kept)
        expected[best] = True
        filled = after.masks.get(name, np.ones_like(before.masks[name])).reshape(rows, -1)
        assert np.array_equal(filled, expected)
        if not extra and exact >= Fraction(1, 2):  # the density is kept, up to half a filter
            assert abs(int(filled.sum()) - int(kept.sum())) <= size / 2
    assert np.array_equal(after.masks["fc.weight"], before.masks["fc.weight"])
    assert "conv1.weight" not in after.masks


@pytest.mark.parametrize(
    ("kept", "extra", "filters"),
    [(1, 0.0, 1), (14, 0.0, 1), (15, 0.0, 2), (24, 0.0, 2), (25, 0.0, 3), (80, 0.0, 8), (40, 0.5, 6), (80, 0.5, 8)],
)
def test_as_many_filters_as_hold_the_weights(kept: int, extra: float, filters: int) -> None:
    """8 filters of 10 weights: halves are rounded up, and `extra` is a share of the other filters."""
    rows = torch.zeros(80, dtype=torch.bool)
    rows[:kept] = True
    assert filters_to_fill(rows.view(8, 10), extra) == filters


def test_pruned_weights_do_not_count_for_the_l1_norm(subject: tuple[nn.Module, ModelGraph]) -> None:
    module, graph = subject
    structure = _masked(graph, 0.3, 1)
    context = make_subject(module, graph, structure)
    large = {
        name: torch.where(torch.from_numpy(structure.masks[name].copy()), tensor, 1e3)
        if name in CONVOLUTIONS
        else tensor
        for name, tensor in context.state.items()
    }
    other = ScoringContext(graph, structure, large)
    assert refill_filters(other, {"by": "l1"}) == refill_filters(context, {"by": "l1"})


class _TwoLayers(nn.Module):
    """A network whose second convolution is followed by an activation in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 8, 3, stride=2)
        self.relu, self.fc = nn.ReLU(inplace=True), nn.Linear(8 * 9, 10)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.relu(self.second(self.relu(self.first(x))))
        output: Tensor = self.fc(hidden.flatten(1))
        return output


def test_saliency_is_the_output_times_its_gradient() -> None:
    torch.manual_seed(0)
    module = _TwoLayers()
    graph = trace_module(module)
    structure = _masked(graph, 0.5, 3, ("second.weight",))
    batches = random_batches(24, batches=2)
    after = refill_filters(make_subject(module, graph, structure, batches), {"by": "saliency"}, batches)
    mask = torch.from_numpy(structure.masks["second.weight"].copy())
    scores = torch.zeros(8, dtype=torch.float64)
    for images, labels in batches:
        hidden = F.relu(module.first(images))
        output = F.conv2d(hidden, module.second.weight * mask, module.second.bias, stride=2).detach()
        output.requires_grad_(True)
        loss = F.cross_entropy(module.fc(F.relu(output).flatten(1)), labels) * len(labels) / 24
        (gradient,) = torch.autograd.grad(loss, output)
        scores += (output * gradient).abs().sum((0, 2, 3)).detach()
    count = round(float(mask.sum()) / mask[0].numel())
    best = set(scores.argsort(descending=True)[:count].tolist())
    assert {row for row in range(8) if after.masks["second.weight"][row].all()} == best


@pytest.mark.parametrize("keyword", ["refill", "regroup"])
def test_without_masks_of_convolutions_there_is_nothing_to_do(
    subject: tuple[nn.Module, ModelGraph], keyword: str
) -> None:
    module, graph = subject
    structure = _masked(graph, 0.5, 0, ("fc.weight",))
    with pytest.raises(TickdslError, match=f"`{keyword}` changes nothing"):
        if keyword == "refill":
            refill_filters(make_subject(module, graph, structure), {"by": "l1"})
        else:
            regroup_masks(graph, structure, {"groups": 2, "ratio": 1.5, "min_rows": 1})


class _Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.up, self.out = nn.Linear(64, 6 * 16), nn.ConvTranspose2d(6, 10, 2, stride=2), nn.Conv2d(10, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.up(self.fc(x.flatten(1)).view(-1, 6, 4, 4))
        output: Tensor = self.out(F.relu(hidden))
        return output


def test_the_filters_of_a_transposed_convolution_are_its_second_dimension() -> None:
    module = _Decoder()
    graph = trace_module(module)
    structure = _masked(graph, 0.4, 2, ("up.weight",))
    after = refill_filters(make_subject(module, graph, structure), {"by": "count"}).masks["up.weight"]
    counts = structure.masks["up.weight"].sum((0, 2, 3))
    filled = after.all(axis=(0, 2, 3))
    assert np.array_equal(filled, after.any(axis=(0, 2, 3))) and filled.sum() == round(counts.sum() / 24)
    assert counts[filled].min() >= counts[~filled].max()


def test_after_removed_channels_the_filters_that_are_left_are_filled(subject: tuple[nn.Module, ModelGraph]) -> None:
    module, graph = subject
    group = graph.groups_by_producer["conv2"]
    structure = _masked(graph, 0.5, 4).remove(group, range(8))
    after = refill_filters(make_subject(module, graph, structure), {"by": "l1"})
    mask = after.masks["conv2.weight"][8:].reshape(24, -1)
    assert np.array_equal(mask.all(1), mask.any(1))
    assert mask.all(1).sum() == int(structure.masks["conv2.weight"][8:].sum() / mask.shape[1] + 0.5)
    assert np.array_equal(after.kept[group], structure.kept[group])


@pytest.mark.parametrize("kind", ["refill", "regroup"])
def test_a_random_structure_has_filters_and_blocks_of_the_same_sizes(
    subject: tuple[nn.Module, ModelGraph], kind: str
) -> None:
    module, graph = subject
    before = _masked(graph, 0.3, 5, (*CONVOLUTIONS, "fc.weight"))
    if kind == "refill":
        after = refill_filters(make_subject(module, graph, before), {"by": "l1"})
    else:
        after = regroup_masks(graph, before, {"groups": 3, "ratio": 1.5, "min_rows": 2})
    drawn = random_structure(graph, after, torch.Generator().manual_seed(1), in_blocks=True)
    assert drawn.masks.keys() == after.masks.keys() and drawn != after

    def shapes(structure: Structure, name: str) -> list[tuple[int, int]]:
        mask = structure.masks[name].reshape(32, -1)
        return sorted((len(block.rows), len(block.columns)) for block in dense_blocks(mask))

    for name in CONVOLUTIONS:
        assert shapes(drawn, name) == shapes(after, name)
    assert drawn.masks["fc.weight"].sum() == after.masks["fc.weight"].sum()


# -- regroup


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 20), columns=st.integers(1, 25), density=st.floats(0.05, 1.0), ratio=st.floats(0.1, 5.0),
       seed=st.integers(0, 10**6))  # fmt: skip
def test_a_block_has_more_columns_than_ratio_times_what_any_row_has_outside(
    rows: int, columns: int, density: float, ratio: float, seed: int
) -> None:
    """Column by column, as in algorithm 2 and the authors' code, but for its slip: the fullest columns first."""
    mask = np.random.default_rng(seed).random((rows, columns)) < density
    order = sorted(range(columns), key=lambda column: (-int(mask[:, column].sum()), column))
    expected: list[int] = []
    for column in order:
        expected.append(column)
        if all(
            len(expected) > ratio * sum(mask[row, other] for other in order[len(expected) :]) for row in range(rows)
        ):
            break
    assert dense_columns(mask, ratio).tolist() == sorted(expected)


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(0, 40), groups=st.integers(1, 12), seed=st.integers(0, 10**6))
def test_parts_hold_every_row_once_and_are_of_equal_size(rows: int, groups: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((rows, 30)) < 0.3
    parts = partition(mask, groups)
    assert sorted(row for part in parts for row in part.tolist()) == list(range(rows))
    assert len(parts) == min(groups, max(1, rows))
    assert max(len(part) for part in parts) - min(len(part) for part in parts) <= 1
    assert [part.tolist() for part in partition(mask, groups)] == [part.tolist() for part in parts]


@pytest.mark.parametrize("groups", [2, 3, 4, 8])
def test_rows_that_share_their_columns_come_together(groups: int) -> None:
    """Rows of disjoint sets of columns, in a random order."""
    kinds = np.random.default_rng(groups).permutation(np.repeat(np.arange(groups), 6))
    mask = kinds[:, None] == np.repeat(np.arange(groups), 5)[None, :]
    found = {frozenset(part.tolist()) for part in partition(mask, groups)}
    assert found == {frozenset(np.flatnonzero(kinds == kind).tolist()) for kind in range(groups)}
    # With a ratio that allows nothing outside, the blocks are the mask.
    blocks = find_blocks(mask, groups, 1e9, 5)
    again = np.zeros_like(mask)
    for rows, columns in blocks:
        again[np.ix_(rows, columns)] = True
    assert np.array_equal(again, mask)
    assert find_blocks(mask, groups, 1e9, 6) == []


@settings(max_examples=25, deadline=None)
@given(density=st.floats(0.05, 0.6), seed=st.integers(0, 10**6), groups=st.sampled_from([2, 4, 8]))
def test_a_regrouped_mask_consists_of_dense_blocks(
    subject: tuple[nn.Module, ModelGraph], density: float, seed: int, groups: int
) -> None:
    _, graph = subject
    before = _masked(graph, density, seed, (*CONVOLUTIONS, "fc.weight"))
    after = regroup_masks(graph, before, {"groups": groups, "ratio": 1.5, "min_rows": 2})
    for name in CONVOLUTIONS:
        mask = after.masks[name].reshape(32, -1)
        patterns = {row.tobytes() for row in mask if row.any()}
        assert 1 <= len(patterns) <= groups
        assert all(sum(row.tobytes() == pattern for row in mask) > 2 for pattern in patterns)
        # No row has more weights left outside its block than the block has columns, over the ratio.
        outside = (before.masks[name].reshape(32, -1) & ~mask)[mask.any(1)].sum(1)
        assert (mask.sum(1)[mask.any(1)] > 1.5 * outside).all()
    assert np.array_equal(after.masks["fc.weight"], before.masks["fc.weight"])


def test_a_convolution_without_blocks_keeps_its_mask(subject: tuple[nn.Module, ModelGraph]) -> None:
    _, graph = subject
    before = _masked(graph, 0.3, 0)
    args: dict[str, Any] = {"groups": 8, "ratio": 1.5, "min_rows": 16}  # parts of 4 of 32 filters
    assert regroup_masks(graph, before, args) == before
