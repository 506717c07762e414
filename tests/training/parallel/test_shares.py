"""The rows that processes compute of a batch: together exactly those of one process, augmented and mixed alike."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tickdsl.training.data import datasets
from tickdsl.training.data.batch_stream import Batch, BatchStream
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.data.device_dataset import DeviceDataset
from tickdsl.training.parallel.shares import BatchShare, batch_share, cut, joined, micro_batches
from tickdsl.training.recipes.recipe import Recipe

CPU = torch.device("cpu")


@settings(max_examples=200)
@given(batch=st.integers(1, 40), ranks=st.integers(1, 9), micro_batch=st.integers(1, 40))
def test_every_row_counts_in_one_process(batch: int, ranks: int, micro_batch: int) -> None:
    shares = [batch_share(batch, rank, ranks, micro_batch) for rank in range(ranks)]
    parts = cut(batch, micro_batches(batch, micro_batch))
    for part, (start, stop) in enumerate(parts):
        rows = [share.rows[part] for share in shares]
        counted = [row for each in rows if each.counted for row in range(each.first, each.last)]
        assert counted == list(range(start, stop))
        assert all(start <= each.first < each.last <= stop for each in rows), "none is without rows"
        assert {share.sizes[part] for share in shares} == {tuple(len(each) * each.counted for each in rows)}


@given(count=st.integers(0, 50), parts=st.integers(1, 9))
def test_rows_are_cut_as_torch_cuts_them(count: int, parts: int) -> None:
    ends = [(part[0].item(), part[-1].item() + 1) for part in torch.arange(count).tensor_split(parts) if len(part)]
    assert [each for each in cut(count, parts) if each[0] < each[1]] == ends


def test_rows_that_follow_each_other_are_one_range() -> None:
    assert joined(batch_share(12, 0, 1, 4).rows) == [(0, 12)]
    assert joined(batch_share(12, 0, 2, 4).rows) == [(0, 2), (4, 6), (8, 10)]


@pytest.fixture(scope="module")
def images() -> Dataset:
    return datasets.load("synthetic", options={"size": 8, "channels": 1, "train": 45, "test": 4, "classes": 3})


@pytest.fixture(scope="module")
def masks() -> Dataset:
    return datasets.load("shapes", options={"size": 16, "channels": 1, "train": 45, "test": 4})


RECIPES: dict[str, dict[str, Any]] = {
    "augmented": {"augment": ("crop", "flip", "rotation")},
    "mixed": {"mixup": 0.5, "cutmix": 1.0, "augment": ("flip",)},
    "in micro-batches": {"accumulate": 3, "augment": ("crop",)},
    "mixed in micro-batches": {"accumulate": 4, "mixup": 0.5},
    "balanced": {"sampling": "balanced"},
}


def _batches(data: Dataset, recipe: Recipe, ranks: int) -> list[list[tuple[Batch, BatchShare | None]]]:
    """The batches of two epochs with their shares, by process."""
    streams = []
    for rank in range(ranks):
        share_of = partial(batch_share, rank=rank, ranks=ranks, micro_batch=recipe.micro_batch) if ranks > 1 else None
        stream = BatchStream(DeviceDataset(data, recipe, CPU), [7], share_of=share_of)
        steps = range(2 * stream._dataset.steps_per_epoch)
        streams.append([(stream.batch(step), stream.share(step)) for step in steps])
    return streams


def _put_together(parts: list[Batch], shares: list[BatchShare], field: int) -> torch.Tensor:
    """The rows that count, in the order of the whole batch."""
    rows: dict[int, torch.Tensor] = {}
    for part, share in zip(parts, shares, strict=True):
        position = 0
        for each in share.rows:
            for row in range(each.first, each.last):
                if each.counted:
                    rows[row] = part[field][position]
                position += 1
        assert position == len(part[field])
    return torch.stack([rows[row] for row in sorted(rows)])


@pytest.mark.parametrize("ranks", [2, 3, 6])
@pytest.mark.parametrize("options", RECIPES.values(), ids=list(RECIPES))
def test_the_processes_have_the_batches_of_one(images: Dataset, options: dict[str, Any], ranks: int) -> None:
    _require_equal_batches(images, Recipe(length="2ep", lr=0.1, batch=8, **options), ranks)


def test_masks_move_with_the_images_of_a_share(masks: Dataset) -> None:
    _require_equal_batches(masks, Recipe(length="2ep", lr=0.1, batch=8, augment=("crop", "flip", "rotation")), 3)


def test_streamed_inputs_are_shared_too(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", x=draw.random((60, 5), dtype=np.float32), y=draw.integers(0, 3, 60))
    options = {"path": str(tmp_path / "data.npz"), "test": 0.25, "load": "stream"}
    data = datasets.load("arrays", options=options)
    _require_equal_batches(data, Recipe(length="2ep", lr=0.1, batch=8, accumulate=2), 3)
    _require_equal_batches(data, Recipe(length="2ep", lr=0.1, batch=8, mixup=0.5), 2)


def _require_equal_batches(data: Dataset, recipe: Recipe, ranks: int) -> None:
    (whole,) = _batches(data, recipe, 1)
    for (expected, none), *parts in zip(whole, *_batches(data, recipe, ranks), strict=True):
        shares = [share for _, share in parts if share is not None]
        assert none is None and [share.batch for share in shares] == [len(expected.inputs)] * ranks
        for field in range(3):
            found = _put_together([batch for batch, _ in parts], shares, field)
            assert torch.equal(found, expected[field]), field
