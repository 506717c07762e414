"""Pictures for criteria: as many as asked for, all different, normalised, the same for equal streams."""

import torch

from tickdsl.training.data.datasets import Dataset, load
from tickdsl.training.data.sample import sample_batches
from tickdsl.training.rng import generator


def data() -> Dataset:
    return load("synthetic", options={"size": 4, "train": 200, "test": 20, "classes": 5})


def test_so_many_of_each_class() -> None:
    found = sample_batches(data(), generator(1, "prune", "pictures"), per_class=7, batch=10)
    labels = torch.cat([part for _, part in found])
    assert torch.bincount(labels).tolist() == [7] * 5
    assert {len(part) for _, part in found} == {8, 9}
    assert labels.tolist() != sorted(labels.tolist())


def test_no_more_than_there_are() -> None:
    found = sample_batches(data(), generator(1, "a"), per_class=10_000, batch=64)
    assert sum(len(labels) for _, labels in found) == 200
    found = sample_batches(data(), generator(1, "a"), total=10_000, batch=64)
    assert sum(len(labels) for _, labels in found) == 200


def test_they_are_training_pictures_normalised() -> None:
    whole = data()
    ((images, labels),) = sample_batches(whole, generator(1, "a"), total=50, batch=64)
    assert images.shape == (50, 3, 4, 4)
    bytes_ = (images * whole.std.view(-1, 1, 1) + whole.mean.view(-1, 1, 1)) * 255
    rows = {tuple(row): int(label) for row, label in zip(bytes_.round().flatten(1).int().tolist(), labels, strict=True)}
    known = dict(
        zip(map(tuple, whole.train_images.flatten(1).int().tolist()), whole.train_labels.tolist(), strict=True)
    )
    assert len(rows) == 50
    assert all(known[row] == label for row, label in rows.items())


def test_the_stream_decides() -> None:
    one, two, other = (
        torch.cat([images for images, _ in sample_batches(data(), generator(seed, "a"), total=40, batch=16)])
        for seed in (1, 1, 2)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
