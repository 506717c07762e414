"""Arrays that are read while they are used: the same data, statistics and trainings as arrays in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from array_files import write_arrays
from torch import Tensor

from tickdsl.errors import TickdslError
from tickdsl.training import models
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.data.streaming.images import StreamedImages, in_memory, take
from tickdsl.training.loop import train
from tickdsl.training.recipes.recipe import Recipe

FORMS = ("npz", "safetensors", "npy")


def arrays(kind: str) -> dict[str, np.ndarray[Any, Any]]:
    """Arrays of each kind of inputs; more than are read at once."""
    rng, count = np.random.default_rng(0), 1200
    inputs = {
        "channels-last": rng.integers(0, 256, (count, 6, 5, 3), dtype=np.uint8),
        "grey": rng.integers(0, 256, (count, 6, 5), dtype=np.uint8),
        "masks": rng.integers(0, 2, (count, 4, 4)).astype(np.bool_),
        "floats": rng.normal(100, 7, (count, 2, 4, 4)).astype(np.float64),
        "columns": rng.normal(0, 1, (count, 5)).astype(np.float32) * [1, 10, 100, 1e3, 1e-3],
        "tokens": rng.integers(0, 20, (count, 7), dtype=np.int32),
    }
    return {"x": inputs[kind], "y": rng.integers(0, 3, count)}


def load(path: Path, how: str, **options: Any) -> Dataset:
    return datasets.load("arrays", options={"path": str(path), "test": 0.25, "load": how, **options})


def assert_equal(streamed: Dataset, resident: Dataset) -> None:
    assert streamed.fingerprint == resident.fingerprint and streamed.shape == resident.shape
    assert torch.equal(streamed.mean, resident.mean) and torch.equal(streamed.std, resident.std)
    for ours, theirs in (
        ((streamed.train_inputs, streamed.train_targets), (resident.train_inputs, resident.train_targets)),
        (streamed.test_set, resident.test_set),
        (streamed.validation_set, resident.validation_set),
    ):
        if ours is None or theirs is None:
            assert ours is theirs
            continue
        assert isinstance(ours[0], StreamedImages) and isinstance(theirs[0], Tensor)
        assert ours[0].dtype == theirs[0].dtype and torch.equal(in_memory(ours[0]), theirs[0])
        assert torch.equal(ours[1], theirs[1])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["channels-last", "grey", "masks", "floats", "columns", "tokens"])
def test_streamed_arrays_are_the_resident_ones(kind: str, form: str, tmp_path: Path) -> None:
    path = write_arrays(tmp_path, form, arrays(kind))
    more = {"vocabulary": 20} if kind == "tokens" else {}
    for options in ({}, {"validation": 0.2, "samples": 300}):
        assert_equal(load(path, "stream", **more, **options), load(path, "resident", **more, **options))


@pytest.mark.parametrize("kind", ["channels-last", "floats"])
def test_trainings_have_the_same_bits(kind: str, tmp_path: Path) -> None:
    path = write_arrays(tmp_path, "npz", arrays(kind))
    recipe = Recipe(length="2ep", lr=0.05, batch=32, augment=("crop", "flip"))
    trained = []
    for how in ("stream", "resident"):
        data = load(path, how, samples=150)
        network = models.create("small-cnn", classes=3, shape=data.shape, seed=0, options={"width": 0.25})
        history = train(network, data, recipe, seed=1)
        trained.append((network.state_dict(), [report.test_loss for report in history.epochs]))
    (ours, losses), (theirs, expected) = trained
    assert losses == expected and all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_nothing_but_the_batches_is_read(tmp_path: Path) -> None:
    data = load(write_arrays(tmp_path, "safetensors", arrays("floats")), "stream")
    streamed: Any = data.train_inputs
    part: Any = take(data.train_inputs, torch.arange(5))
    assert streamed.nbytes == 0 and isinstance(part, StreamedImages) and part[:].shape == (5, 2, 4, 4)


def test_large_arrays_are_streamed_and_small_ones_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_arrays(tmp_path, "npz", arrays("floats"))
    assert isinstance(load(path, "auto").train_inputs, Tensor)
    monkeypatch.setattr("tickdsl.training.data.readers.arrays.is_too_large", lambda size: size > 1000)
    assert isinstance(load(path, "auto").train_inputs, StreamedImages)


def test_what_cannot_be_streamed_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    compressed = tmp_path / "small.npz"
    np.savez_compressed(compressed, **arrays("grey"))  # type: ignore[arg-type]
    with pytest.raises(TickdslError, match="is compressed") as refused:
        load(compressed, "stream")
    assert "load=resident" in str(refused.value.hint)
    path = write_arrays(tmp_path, "npz", arrays("grey"))
    with pytest.raises(TickdslError, match="cannot change arrays that are streamed"):
        load(path, "stream", size=16)
    broken = arrays("floats") | {"x": np.full((1200, 4), np.nan, dtype=np.float32)}
    (tmp_path / "other").mkdir()
    with pytest.raises(TickdslError, match="is not finite"):
        load(write_arrays(tmp_path / "other", "npz", broken), "stream")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(TickdslError, match="damaged"):
        load(path, "stream")
