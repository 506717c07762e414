"""WebDataset shards and Parquet files: the images of a folder of the same content, streamed or not."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_files import add_to_tar, encoded, write_folder
from torch import Tensor

from tickdsl.errors import TickdslError
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.data.streaming.images import StreamedImages, in_memory

LABELS = ("cat", "dog", "eel")


def images(count: int, seed: int) -> list[tuple[str, bytes]]:
    """(label, JPEG) of samples in a mixed order."""
    draw = np.random.default_rng(seed)
    return [
        (LABELS[n % 3], encoded(draw.integers(0, 255, (9, 8 + n % 2, 3), dtype=np.uint8), form="JPEG"))
        for n in range(count)
    ]


TRAIN, TEST = images(21, 1), images(9, 2)


def write_shard(path: Path, samples: list[tuple[str, bytes]], first: int = 0, label: str = "cls") -> None:
    with tarfile.open(path, "w") as tar:
        for number, (name, content) in enumerate(samples, start=first):
            text = json.dumps({"label": name}) if label == "json" else name
            add_to_tar(tar, f"{number:06}.{label}", text.encode())
            add_to_tar(tar, f"{number:06}.jpg", content)


def shards(folder: Path, label: str = "cls") -> Path:
    folder.mkdir(parents=True)
    for part in range(3):
        write_shard(folder / f"pets-train-{part:06}.tar", TRAIN[7 * part : 7 * part + 7], 7 * part, label)
    write_shard(folder / "pets-test-000000.tar", TEST, 0, label)
    return folder


def parquets(folder: Path, names: bool = True) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    folder.mkdir(parents=True)
    for part, samples in (("train-00000-of-00001", TRAIN), ("test-00000-of-00001", TEST)):
        labels: list[Any] = [LABELS.index(name) if names else name for name, _ in samples]
        table = pyarrow.table({"image": [{"bytes": content, "path": None} for _, content in samples], "label": labels})
        if names:
            features = {"label": {"names": list(LABELS), "_type": "ClassLabel"}, "image": {"_type": "Image"}}
            table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        parquet.write_table(table, folder / f"{part}.parquet", row_group_size=5)
    return folder


def load(name: str, path: Path, **options: Any) -> Dataset:
    return datasets.load(name, root=path.parent / "root", options={"path": str(path), "size": 8, **options})


def samples(inputs: Tensor, targets: Tensor) -> list[tuple[bytes, int]]:
    return sorted(
        (image.numpy().tobytes(), int(target)) for image, target in zip(in_memory(inputs), targets, strict=True)
    )


def assert_alike(ours: Dataset, theirs: Dataset) -> None:
    """The same images in the same classes, in any order."""
    assert ours.class_names == theirs.class_names
    assert samples(ours.train_inputs, ours.train_targets) == samples(theirs.train_inputs, theirs.train_targets)
    assert samples(*ours.test_set) == samples(*theirs.test_set)
    assert torch.equal(ours.mean, theirs.mean) and torch.equal(ours.std, theirs.std)
    for first, second in ((ours, theirs), (theirs, ours)):
        assert (first.validation_set is None) is (second.validation_set is None)
    if ours.validation_set is not None and theirs.validation_set is not None:
        assert samples(*ours.validation_set) == samples(*theirs.validation_set)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files: Mapping[str, bytes] = {
        f"{split}/{label}/{n:03}.jpg": content
        for split, part in (("train", TRAIN), ("test", TEST))
        for n, (label, content) in enumerate(part)
    }
    return write_folder(tmp_path_factory.mktemp("data") / "pets", files)


@pytest.mark.parametrize("how", ["resident", "stream"])
@pytest.mark.parametrize("label", ["cls", "txt", "json"])
def test_shards_hold_the_images_of_a_folder(tmp_path: Path, folder: Path, how: str, label: str) -> None:
    data = load("webdataset", shards(tmp_path / "shards", label), load=how, validation=0.3)
    assert isinstance(data.train_inputs, StreamedImages) is (how == "stream")
    assert_alike(data, load("folder", folder, validation=0.3))


@pytest.mark.parametrize("how", ["resident", "stream"])
@pytest.mark.parametrize("names", [True, False], ids=["class names", "words"])
def test_parquet_files_hold_the_images_of_a_folder(tmp_path: Path, folder: Path, how: str, names: bool) -> None:
    data = load("parquet", parquets(tmp_path / "files", names), load=how, validation=0.3)
    assert isinstance(data.train_inputs, StreamedImages) is (how == "stream")
    assert_alike(data, load("folder", folder, validation=0.3))


def test_streamed_and_resident_shards_are_equal_in_order(tmp_path: Path) -> None:
    path = shards(tmp_path / "shards")
    ours, theirs = (load("webdataset", path, load=how) for how in ("stream", "resident"))
    assert torch.equal(in_memory(ours.train_inputs), theirs.train_inputs)
    assert torch.equal(ours.train_targets, theirs.train_targets)
    assert ours.fingerprint == theirs.fingerprint


def test_numbers_as_classes_are_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "shards"
    path.mkdir()
    write_shard(path / "train-0.tar", [(str(n % 12), content) for n, (_, content) in enumerate(images(36, 3))])
    data = load("webdataset", path, test=0.34)
    assert data.class_names == tuple(f"{n:02}" for n in range(12))


def test_shards_of_another_program_are_read(tmp_path: Path, folder: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    path = tmp_path / "shards"
    path.mkdir()
    for split, part in (("train", TRAIN), ("test", TEST)):
        with webdataset.ShardWriter(f"{path}/{split}-%06d.tar", maxcount=5, verbose=0) as sink:
            for n, (label, content) in enumerate(part):
                sink.write({"__key__": f"sample{n:04}", "jpg": content, "cls": label.encode()})
    assert_alike(load("webdataset", path, load="stream"), load("folder", folder))


# -- what is wrong


def test_shards_that_are_missing_are_named(tmp_path: Path) -> None:
    path = shards(tmp_path / "shards")
    (path / "pets-train-000001.tar").unlink()
    with pytest.raises(TickdslError, match=r"shards pets-train-\* lack the numbers 1\b"):
        load("webdataset", path)


@pytest.mark.parametrize("cut", [100, 700, 2000, -1024, -3000])
def test_shards_that_are_cut_short_are_named(tmp_path: Path, cut: int) -> None:
    path = shards(tmp_path / "shards")
    shard = path / "pets-train-000001.tar"
    content = shard.read_bytes()
    # tarfile fills a shard with zeros up to 10,240 bytes: nothing is lost with those.
    used = len(content.rstrip(b"\0"))
    shard.write_bytes(content[:cut] if cut > 0 else content[: used + cut])
    with pytest.raises(TickdslError, match=r"the shard .*pets-train-000001.tar is damaged") as raised:
        load("webdataset", path)
    assert raised.value.hint == "download it again"


def test_samples_without_a_class_and_folders_without_shards_are_named(tmp_path: Path) -> None:
    path = tmp_path / "shards"
    path.mkdir()
    with pytest.raises(TickdslError, match="holds no shards"):
        load("webdataset", path)
    (path / "train-0.tar.gz").write_bytes(b"")
    with pytest.raises(TickdslError, match=r"only compressed shards, such as train-0\.tar\.gz"):
        load("webdataset", path)
    with tarfile.open(path / "train-0.tar", "w") as tar:
        add_to_tar(tar, "7.jpg", TRAIN[0][1])
    with pytest.raises(TickdslError, match=r"train-0.tar: the sample 7.jpg has no class"):
        load("webdataset", path)
    write_shard(path / "train-0.tar", TRAIN)
    with pytest.raises(TickdslError, match="no images to test on"):
        load("webdataset", path)


def test_parquet_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = parquets(tmp_path / "files")
    whole = (path / "train-00000-of-00001.parquet").read_bytes()
    (path / "train-00000-of-00001.parquet").write_bytes(whole[:-20])
    with pytest.raises(TickdslError, match=r"train-00000-of-00001.parquet is damaged"):
        load("parquet", path)
    for columns, message in (
        ({"label": [0, 1]}, "no column of images"),
        ({"image": [b"", b""]}, "no column of labels"),
        ({"image": [{"path": "a"}, {"path": "b"}], "label": [0, 1]}, "row 0 holds no bytes"),
        ({"image": [b"x", b"y"], "label": [0, None]}, "row 1 has the label None"),
        ({"image": [b"x", b"y"], "label": [0, 1]}, "cannot read the image"),
    ):
        parquet.write_table(pyarrow.table(columns), path / "train-00000-of-00001.parquet")
        with pytest.raises(TickdslError, match=message):
            load("parquet", path)


def test_without_pyarrow_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train.parquet").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(TickdslError, match="needs pyarrow") as raised:
        load("parquet", tmp_path)
    assert raised.value.hint == 'install it: pip install "tickdsl[parquet]"'


def test_a_shard_can_be_damaged_within_an_image(tmp_path: Path) -> None:
    path = shards(tmp_path / "shards")
    shard = path / "pets-train-000002.tar"
    content = bytearray(shard.read_bytes())
    at = content.index(TRAIN[14][1])
    content[at : at + 40] = io.BytesIO(bytes(40)).getvalue()
    shard.write_bytes(bytes(content))
    for how in ("stream", "resident"):
        with pytest.raises(TickdslError, match=r"pets-train-000002.tar:000014.jpg"):
            load("webdataset", path, load=how)


# -- the Hugging Face Hub


def saved(folder: Path, splits: tuple[str, ...] = ("train", "test")) -> Path:
    library = pytest.importorskip("datasets")
    features = library.Features({"image": library.Image(), "label": library.ClassLabel(names=list(LABELS))})
    parts = {"train": TRAIN, "test": TEST, "validation": TEST}
    library.DatasetDict(
        {
            split: library.Dataset.from_dict(
                {
                    "image": [{"bytes": content, "path": None} for _, content in parts[split]],
                    "label": [LABELS.index(name) for name, _ in parts[split]],
                },
                features=features,
            )
            for split in splits
        }
    ).save_to_disk(str(folder))
    return folder


@pytest.mark.parametrize("how", ["resident", "stream"])
@pytest.mark.parametrize("test", ["test", "validation"])
def test_a_saved_data_set_of_the_hub_holds_the_images_of_a_folder(
    tmp_path: Path, folder: Path, how: str, test: str
) -> None:
    path = saved(tmp_path / "saved", ("train", test))
    data = load("hf", path, load=how, validation=0.3)
    assert_alike(data, load("folder", folder, validation=0.3))


def test_the_fingerprint_is_that_of_the_content(tmp_path: Path) -> None:
    first, second = saved(tmp_path / "one"), saved(tmp_path / "two")
    assert load("hf", first).fingerprint == load("hf", second).fingerprint


def test_a_name_on_the_hub_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(TickdslError, match="nobody/nothing cannot be loaded by `datasets`") as raised:
        datasets.load("hf", root=tmp_path, options={"path": "nobody/nothing"})
    assert raised.value.hint is not None and "save_to_disk" in raised.value.hint


def test_a_quoted_name_is_a_path() -> None:
    from tickdsl.lang.meaning.resolve import resolve
    from tickdsl.lang.reading.include import load_source
    from tickdsl.lang.syntax import Source

    for text in ('data "hf:ylecun/mnist" size=8', 'data hf path="ylecun/mnist" size=8'):
        plan = resolve(
            load_source(Source("test.plan", f"model small-cnn\n{text}\nprune filters 20%; rewind lr\n"))
        ).plan
        assert plan is not None
        assert (plan.arms[0].data.name, dict(plan.arms[0].data.options)) == ("hf", {"size": 8, "path": "ylecun/mnist"})
