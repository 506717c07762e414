"""Arrays in files as data sets: numbers, images, tokens, labels and targets, and what they may not be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from tickdsl.errors import TickdslError
from tickdsl.training import models
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.loop import train
from tickdsl.training.recipes.recipe import Recipe

DRAW = np.random.default_rng(0)


def columns(count: int = 90, width: int = 5) -> dict[str, Any]:
    """Columns of numbers of different scales, in three classes."""
    x = (DRAW.normal(size=(count, width)) * [1, 10, 100, 0.1, 0.0] + [0, 5, -50, 1, 7]).astype(np.float32)
    return {"x": x, "y": np.arange(count) % 3}


def write(folder: Path, arrays: Mapping[str, Any], form: str) -> Path:
    if form == "npz":
        np.savez(folder / "data.npz", **arrays)
        return folder / "data.npz"
    if form == "safetensors":
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / "data.safetensors")
        return folder / "data.safetensors"
    (folder / "data").mkdir()
    for name, array in arrays.items():
        np.save(folder / "data" / f"{name}.npy", array)
    return folder / "data"


def load(path: Path, **options: Any) -> Dataset:
    return datasets.load("arrays", root=path.parent, options={"path": str(path), **options})


@pytest.mark.parametrize("form", ["npz", "safetensors", "npy"])
def test_columns_are_channels_of_one_pixel_with_their_own_mean_and_deviation(tmp_path: Path, form: str) -> None:
    arrays = columns()
    data = load(write(tmp_path, arrays, form), test=0.2)
    assert data.shape == (5, 1, 1) and data.class_names == ("0", "1", "2") and data.has_floats
    assert data.train_targets.bincount().tolist() == [24] * 3 and data.test_targets.bincount().tolist() == [6] * 3
    x = data.train_inputs.flatten(1).double()
    torch.testing.assert_close(data.mean.double(), x.mean(0), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(data.std.double()[:4], x.std(0, correction=0)[:4], rtol=1e-5, atol=1e-6)
    assert data.std[4] == 1  # a constant column
    prepared = data.preprocess()(data.train_inputs).flatten(1)
    torch.testing.assert_close(prepared.mean(0), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(prepared.std(0, correction=0)[:4], torch.ones(4), atol=1e-4, rtol=0)


def test_the_form_of_the_file_changes_no_number(tmp_path: Path) -> None:
    arrays = columns()
    loaded = []
    for form in ("npz", "safetensors", "npy"):
        (tmp_path / form).mkdir()
        loaded.append(load(write(tmp_path / form, arrays, form), test=0.2, validation=0.1))
    for other in loaded[1:]:
        assert torch.equal(other.train_inputs, loaded[0].train_inputs)
        assert torch.equal(other.test_targets, loaded[0].test_targets)
        assert other.validation_inputs is not None and loaded[0].validation_inputs is not None
        assert torch.equal(other.validation_inputs, loaded[0].validation_inputs)
        assert torch.equal(other.mean, loaded[0].mean)


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.6))
@settings(max_examples=15, deadline=None)
def test_the_share_for_testing_depends_on_content_alone(
    tmp_path_factory: pytest.TempPathFactory, seed: int, share: float
) -> None:
    arrays = columns()
    order = np.random.default_rng(seed).permutation(90)
    sets = []
    for chosen in (np.arange(90), order):
        folder = tmp_path_factory.mktemp("arrays")
        data = load(write(folder, {name: array[chosen] for name, array in arrays.items()}, "npz"), test=share)
        sets.append({row.numpy().tobytes() for row in data.test_inputs})
    assert sets[0] == sets[1]


@pytest.mark.parametrize("layout", ["first", "last"])
def test_images_have_their_channels_first_or_last(tmp_path: Path, layout: str) -> None:
    images = DRAW.integers(0, 255, (20, 3, 8, 10), dtype=np.uint8)
    stored = images if layout == "first" else images.transpose(0, 2, 3, 1)
    labels = np.array([["cat"], ["dog"]] * 10)
    path = write(tmp_path, {"x_train": stored, "y_train": labels, "x_test": stored[:4], "y_test": labels[:4]}, "npz")
    data = load(path)
    assert torch.equal(data.train_inputs, torch.from_numpy(images))
    assert data.class_names == ("cat", "dog") and data.test_targets.tolist() == [0, 1, 0, 1]


def test_numbers_as_targets_are_a_regression_and_integers_with_a_vocabulary_are_tokens(tmp_path: Path) -> None:
    arrays = columns()
    path = write(tmp_path, {"inputs": arrays["x"], "targets": DRAW.normal(size=(90, 2))}, "npz")
    data = load(path, test=0.2)
    assert data.task.name == "regress" and data.classes == 2
    (tmp_path / "t").mkdir()
    path = write(tmp_path / "t", {"x": DRAW.integers(0, 9, (40, 6)), "y": np.arange(40) % 2}, "npz")
    tokens = load(path, test=0.2, vocabulary=9)
    assert tokens.shape == (6, 9)


def test_a_network_learns_columns(tmp_path: Path) -> None:
    x = DRAW.normal(size=(300, 4)).astype(np.float32) * [1, 100, 1, 1]
    path = write(tmp_path, {"x": x, "y": (x[:, 1] > 0).astype(int)}, "npz")
    data = load(path, test=0.2, validation=0.1)
    model = models.create("lenet-300-100", classes=2, shape=data.shape, seed=0)
    history = train(model, data, Recipe(length="8ep", lr=0.05, batch=32), seed=0)
    assert history.figures["accuracy"] > 0.9


def test_files_that_are_mapped_are_not_copied(tmp_path: Path) -> None:
    x = DRAW.normal(size=(50, 3, 8, 8)).astype(np.float32)
    y = np.arange(50) % 2
    path = write(tmp_path, {"x_train": x, "y_train": y, "x_test": x[:4], "y_test": y[:4]}, "npy")
    raw = datasets.find_source(
        "arrays", tmp_path, {"path": str(path), "test": 0.0, "vocabulary": 0, "load": "auto", "inputs": []}
    ).read()
    assert isinstance(raw.train_inputs.base, np.memmap) or isinstance(raw.train_inputs, np.memmap)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros(3)}, "has no inputs to train on: it holds a"),
        ({"x": np.zeros((4, 2))}, "has no targets to train on"),
        ({"x": np.zeros((4, 2), np.float32), "y": np.arange(3)}, "4 inputs and 3 targets"),
        ({"x": np.full((4, 2), np.nan), "y": np.arange(4) % 2}, r"the input at \[0, 0\] is not finite"),
        ({"x": np.zeros((4, 2), complex), "y": np.arange(4) % 2}, "the inputs are complex128"),
        ({"x": np.zeros(4), "y": np.arange(4) % 2}, r"the inputs are float64 \[4\]"),
        ({"x": np.array([["a"], ["b"]]), "y": np.arange(2)}, "the inputs are <U1"),
        ({"x": np.eye(4), "y": np.arange(4)}, "class 0: needs two|class 0 needs two"),
        ({"x": np.eye(4), "y": np.ones((4, 2))}, "one value only"),
        ({"x": np.eye(4), "y": np.array([{"a": 1}] * 4, dtype=object)}, "objects, which would have to run code"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_arrays_that_are_no_data_set(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(TickdslError, match=message):
        load(tmp_path / "data.npz", test=0.25)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    arrays = columns()
    path = write(tmp_path, arrays, "npz")
    with pytest.raises(TickdslError, match="has no test set") as raised:
        load(path)
    assert raised.value.hint is not None and "test=20%" in raised.value.hint
    cut = tmp_path / "cut.npz"
    cut.write_bytes(path.read_bytes()[:200])
    with pytest.raises(TickdslError, match="damaged"):
        load(cut, test=0.2)
    with pytest.raises(TickdslError, match="does not exist"):
        load(tmp_path / "none.npz", test=0.2)
    with pytest.raises(TickdslError, match="columns of numbers"):
        load(path, test=0.2, size=8)
    with pytest.raises(TickdslError, match="`augment=` changes images, but the data has none"):
        model = models.create("lenet-300-100", classes=3, shape=(5, 1, 1), seed=0)
        train(model, load(path, test=0.2), Recipe(length="1ep", augment=("flip",)), seed=0)
    unseen = {"x_train": arrays["x"], "y_train": arrays["y"], "x_test": arrays["x"][:2], "y_test": np.array([5, 0])}
    (tmp_path / "u").mkdir()
    with pytest.raises(TickdslError, match="class 5 has test samples but no training samples"):
        load(write(tmp_path / "u", unseen, "npz"))
