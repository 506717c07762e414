"""Several inputs by name: read, held out, streamed with equal bits, augmented where they are images, and refused."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from array_files import write_arrays
from named_data import Reader, arrays
from torch import Tensor

from tickdsl.errors import TickdslError, UnreadableDataError
from tickdsl.training.catalogue.input_shapes import NamedInput, NamedShapes, shape_as_json, shape_from_json
from tickdsl.training.checkpoints import Checkpointer
from tickdsl.training.data import datasets
from tickdsl.training.data.batch_stream import BatchStream
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.data.device_dataset import DeviceDataset
from tickdsl.training.data.streaming.images import in_memory
from tickdsl.training.loop import train
from tickdsl.training.named_tensors import NamedTensors, run_network
from tickdsl.training.recipes.recipe import Recipe

INPUTS = ["image", "meta", "tokens", "mask"]
CPU = torch.device("cpu")


def load(path: Path, how: str = "resident", **options: Any) -> Dataset:
    given = {"path": str(path), "test": 0.25, "load": how, "inputs": INPUTS, **options}
    return datasets.load("arrays", options=given)


def tensors(inputs: Any) -> dict[str, Tensor]:
    held = in_memory(inputs)
    assert isinstance(held, NamedTensors)
    return held.tensors


def assert_same(one: Any, other: Any) -> None:
    ours, theirs = tensors(one), tensors(other)
    assert [*ours] == [*theirs] == INPUTS
    assert all(torch.equal(ours[name], theirs[name]) and ours[name].dtype == theirs[name].dtype for name in ours)


def trained(data: Dataset, recipe: Recipe, device: torch.device = CPU) -> dict[str, Tensor]:
    torch.manual_seed(0)
    network = Reader()
    train(network, data, recipe, seed=3, device=device)
    return network.state_dict()


@pytest.mark.parametrize("form", ["npz", "npy", "safetensors"])
def test_streamed_inputs_are_the_resident_ones(form: str, tmp_path: Path) -> None:
    path = write_arrays(tmp_path, form, arrays())
    for options in ({}, {"validation": 0.2, "samples": 90}):
        streamed, resident = load(path, "stream", **options), load(path, **options)
        assert streamed.fingerprint == resident.fingerprint and streamed.shape == resident.shape
        assert torch.equal(streamed.mean, resident.mean) and torch.equal(streamed.std, resident.std)
        assert_same(streamed.train_inputs, resident.train_inputs)
        assert_same(streamed.test_inputs, resident.test_inputs)
        if options:
            assert streamed.validation_set is not None and resident.validation_set is not None
            assert_same(streamed.validation_set[0], resident.validation_set[0])
            assert len(streamed.validation_set[1]) + len(streamed.train_targets) == 90


def test_inputs_are_described_by_what_they_hold(tmp_path: Path) -> None:
    held = arrays()
    data = load(write_arrays(tmp_path, "npz", held))
    assert dict(data.shape) == {"image": (3, 6, 6), "meta": (4,), "tokens": (5, 20), "mask": (5,)}  # type: ignore[call-overload]
    assert shape_from_json(shape_as_json(data.shape)) == data.shape and hash(data.shape)
    prepared: Any = data.preprocess()(data.train_inputs)
    assert [tensor.dtype for tensor in prepared.tensors.values()] == [
        torch.float32, torch.float32, torch.int64, torch.bool,
    ]  # fmt: skip
    for name, dims in (("image", (0, 2, 3)), ("meta", 0)):
        assert torch.allclose(prepared[name].mean(dims), torch.zeros(1), atol=1e-5)
        assert torch.allclose(prepared[name].std(dims, correction=0), torch.ones(1), atol=1e-4)
    images = held["image"].transpose(0, 3, 1, 2)
    stored = tensors(data.train_inputs)["image"].numpy()
    assert {each.tobytes() for each in stored} <= {each.tobytes() for each in images}


def test_samples_stay_together(tmp_path: Path) -> None:
    """Whatever is held out or drawn, the inputs of a sample stay those of one sample."""
    held = arrays()
    number = np.arange(len(held["y"]))
    held = {"image": held["image"], "meta": np.stack([number, number], 1).astype(np.float64), "y": held["y"]}
    held["image"][:, 0, 0, 0] = number
    data = load(write_arrays(tmp_path, "npz", held), inputs=["image", "meta"], validation=0.2, samples=100)
    assert data.validation_set is not None
    for inputs, targets in ((data.train_inputs, data.train_targets), data.test_set, data.validation_set):
        found: Any = inputs
        rows = found["meta"][:, 0].long()
        assert torch.equal(found["image"][:, 0, 0, 0].long(), rows)
        assert torch.equal(torch.from_numpy(held["y"])[rows], targets)


def test_a_test_set_of_its_own_is_used(tmp_path: Path) -> None:
    held = arrays(40)
    split = {f"{name}_{part}": array[rows] for name, array in held.items() if name != "y"
             for part, rows in (("train", slice(30)), ("test", slice(30, 40)))}  # fmt: skip
    targets = {"y_train": held["y"][:30], "y_test": held["y"][30:]}
    data = load(write_arrays(tmp_path, "npz", {**split, **targets}), test=0.0)
    assert (len(data.train_inputs), len(data.test_inputs)) == (30, 10)
    assert np.array_equal(tensors(data.test_inputs)["tokens"].numpy(), held["tokens"][30:])


def test_augmentations_change_the_image_alone_and_alike_if_streamed(tmp_path: Path) -> None:
    path = write_arrays(tmp_path, "npz", arrays())
    recipe = Recipe(length="1ep", lr=0.1, batch=16, augment=("flip", "crop"))
    batches = []
    for how, used in (("resident", recipe), ("stream", recipe), ("resident", Recipe(length="1ep", lr=0.1, batch=16))):
        data = load(path, how)
        batches.append(BatchStream(DeviceDataset(data, used, CPU), [0]).batch(2).inputs)
    plain: Any
    resident, streamed, plain = batches
    assert_same(resident, streamed)
    changed = [name for name in INPUTS if not torch.equal(resident[name], plain[name])]
    assert changed == ["image"]


def test_trainings_on_streamed_inputs_have_equal_bits_and_continue(tmp_path: Path) -> None:
    path = write_arrays(tmp_path, "npz", arrays())
    recipe = Recipe(length="2ep", lr=0.1, batch=16, augment=("flip",), accumulate=2, clip=1.0)
    whole = trained(load(path), recipe)
    streamed = trained(load(path, "stream"), recipe)
    assert all(torch.equal(whole[name], streamed[name]) for name in whole)
    torch.manual_seed(0)
    network, where = Reader(), tmp_path / "checkpoint"
    steps = itertools.count()

    def before_step() -> None:
        if next(steps) == 10:  # in the second epoch
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(
            network, load(path, "stream"), recipe, seed=3, checkpoint=Checkpointer(where, every_seconds=0),
            before_step=before_step,
        )  # fmt: skip
    torch.manual_seed(0)
    continued = Reader()
    train(continued, load(path), recipe, seed=3, checkpoint=Checkpointer(where, every_seconds=0))
    assert all(torch.equal(whole[name], tensor) for name, tensor in continued.state_dict().items())


def test_sizes_are_those_of_the_image(tmp_path: Path) -> None:
    path = write_arrays(tmp_path, "npz", arrays())
    assert load(path, size=4).shape["image"] == (3, 4, 4)  # type: ignore[call-overload]
    with pytest.raises(TickdslError, match="none of the inputs is the image"):
        load(path, inputs=["meta", "tokens"], size=4)


def spoilt(change: str, held: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    match change:
        case "short":
            return {**held, "meta": held["meta"][:-1]}
        case "missing":
            return {name: array for name, array in held.items() if name != "mask"}
        case "twice":
            return {**held, "image_train": held["image"]}
        case "negative":
            return {**held, "tokens": held["tokens"] - 5}
        case "infinite":
            return {**held, "meta": np.where(held["meta"] > 5, np.inf, held["meta"])}
        case "words":
            return {**held, "meta": np.array(["a"] * len(held["y"]))}
    return {**held, "meta": held["meta"].astype(np.complex128)}


@pytest.mark.parametrize("how", ["resident", "stream"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("short", "the input `image` has 160 samples, and `meta` has 159"),
        ("missing", "has no training input `mask`: it holds image, meta, tokens, y"),
        ("twice", "has the input `image` twice, as image_train and as image"),
        ("negative", "the input `tokens` has the value -"),
        ("infinite", "the input `meta` at .* is not finite"),
        ("words", "the input `meta` is <U1"),
        ("complex", "the input `meta` is complex128"),
    ],
)
def test_wrong_arrays_are_one_error_that_names_them(change: str, said: str, how: str, tmp_path: Path) -> None:
    path = write_arrays(tmp_path, "npz", spoilt(change, arrays()))
    with pytest.raises(UnreadableDataError, match=said):
        load(path, how)


def test_training_and_test_inputs_must_be_alike(tmp_path: Path) -> None:
    held = {
        "meta_train": np.zeros((4, 3)),
        "meta_test": np.zeros((2, 2)),
        "y_train": np.arange(4),
        "y_test": np.arange(2),
    }
    with pytest.raises(
        UnreadableDataError, match=r"the training input `meta` is float32 \[3\], the test input float32"
    ):
        load(write_arrays(tmp_path, "npz", held), inputs=["meta"], test=0.0)


def test_of_two_images_the_one_called_image_is_augmented() -> None:
    left, image = NamedInput("left", "image", (1, 4, 4)), NamedInput("image", "image", (1, 4, 4))
    assert NamedShapes((left, image)).augmented == "image" and NamedShapes((left,)).augmented == "left"
    assert NamedShapes((left, NamedInput("right", "image", (1, 4, 4)))).augmented is None


def test_named_tensors_are_indexed_by_name_and_by_sample() -> None:
    inputs = NamedTensors({"a": torch.arange(6).view(3, 2), "b": torch.arange(3)})
    assert (
        len(inputs) == 3
        and len(inputs[:2]) == 2
        and torch.equal(inputs[torch.tensor([2, 0])]["b"], torch.tensor([2, 0]))
    )
    assert [len(part) for part in inputs.tensor_split(2)] == [2, 1]
    assert run_network(lambda a, b: a.sum() + b.sum(), inputs) == 18
    with pytest.raises(ValueError, match="different lengths"):
        NamedTensors({"a": torch.zeros(2), "b": torch.zeros(3)})
