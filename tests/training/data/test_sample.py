"""Samples for criteria: the requested number of distinct, normalised images, equal for equal random streams."""

import torch

from tickdsl.training.data.datasets import Dataset, load
from tickdsl.training.data.sample import sample_batches
from tickdsl.training.rng import generator


def data() -> Dataset:
    return load("synthetic", options={"size": 4, "train": 200, "test": 20, "classes": 5})


def test_images_per_class() -> None:
    batches = sample_batches(data(), generator(1, "prune", "pictures"), per_class=7, batch=10)
    labels = torch.cat([part for _, part in batches])
    assert torch.bincount(labels).tolist() == [7] * 5
    assert {len(part) for _, part in batches} == {8, 9}
    assert labels.tolist() != sorted(labels.tolist())


def test_a_sample_is_at_most_the_data_set() -> None:
    batches = sample_batches(data(), generator(1, "a"), per_class=10_000, batch=64)
    assert sum(len(labels) for _, labels in batches) == 200
    batches = sample_batches(data(), generator(1, "a"), total=10_000, batch=64)
    assert sum(len(labels) for _, labels in batches) == 200


def test_samples_are_normalised_training_images() -> None:
    whole = data()
    ((images, labels),) = sample_batches(whole, generator(1, "a"), total=50, batch=64)
    assert images.shape == (50, 3, 4, 4)
    bytes_ = (images * whole.std.view(-1, 1, 1) + whole.mean.view(-1, 1, 1)) * 255
    rows = {tuple(row): int(label) for row, label in zip(bytes_.round().flatten(1).int().tolist(), labels, strict=True)}
    known = dict(
        zip(map(tuple, whole.train_inputs.flatten(1).int().tolist()), whole.train_targets.tolist(), strict=True)
    )
    assert len(rows) == 50
    assert all(known[row] == label for row, label in rows.items())


def test_the_sample_depends_on_the_random_stream() -> None:
    one, two, other = (
        torch.cat([images for images, _ in sample_batches(data(), generator(seed, "a"), total=40, batch=16)])
        for seed in (1, 1, 2)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
