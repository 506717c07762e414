"""Data sets: fingerprints, parts, image folders, and errors."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tickdsl.errors import TickdslError
from tickdsl.training.data import datasets
from tickdsl.training.data.readers import idx

REAL = Path(os.environ.get("TICKDSL_TEST_DATA", Path(__file__).parents[4] / "shared" / "data"))
needs_real = pytest.mark.skipif(
    not (REAL / "MNIST" / "raw").is_dir(), reason="no full-size data; set TICKDSL_TEST_DATA to its folder"
)


def test_digits_have_disjoint_training_and_test_sets() -> None:
    digits = datasets.load("digits")
    assert digits.train_inputs.dtype == torch.uint8
    assert digits.test_targets.bincount().min() >= 35
    seen = {bytes(image.numpy().tobytes()) for image in digits.train_inputs}
    assert sum(bytes(image.numpy().tobytes()) in seen for image in digits.test_inputs) == 0
    scaled = digits.train_inputs.double() / 255
    assert digits.mean.item() == pytest.approx(scaled.mean().item())
    assert digits.std.item() == pytest.approx(scaled.std(correction=0).item())


@given(
    options=st.fixed_dictionaries(
        {}, optional={"size": st.integers(1, 12), "channels": st.just(3), "samples": st.integers(1, 300)}
    )
)
def test_a_fingerprint_needs_no_decoding_and_depends_on_the_options(options: dict[str, int]) -> None:
    data = datasets.load("digits", options=options)
    assert data.fingerprint == datasets.fingerprint("digits", options=options)
    assert (data.fingerprint == datasets.fingerprint("digits")) == (not options)
    assert data.shape == (options.get("channels", 1), *[options.get("size", 8)] * 2)
    assert len(data.train_targets) == options.get("samples", 1437)


@given(parts=st.integers(1, 10))
def test_class_parts_are_contiguous_and_cover_everything(parts: int) -> None:
    digits = datasets.load("digits")
    parts_ = [datasets.take_part(digits, by="classes", parts=parts, index=i) for i in range(parts)]
    assert sum((part.class_names for part in parts_), ()) == digits.class_names
    assert sum(len(part.train_targets) for part in parts_) == len(digits.train_targets)
    assert sum(len(part.test_targets) for part in parts_) == len(digits.test_targets)
    assert max(p.classes for p in parts_) - min(p.classes for p in parts_) <= 1
    for part in parts_:
        assert torch.unique(part.train_targets).tolist() == list(range(part.classes))
    assert len({part.fingerprint for part in parts_}) == parts


@given(parts=st.integers(1, 20), seed=st.integers(0, 5))
def test_sample_parts_are_disjoint_and_cover_everything(parts: int, seed: int) -> None:
    digits = datasets.load("synthetic", options={"size": 4, "channels": 1, "train": 200, "test": 10})
    parts_ = [datasets.take_part(digits, by="samples", parts=parts, index=i, seed=seed) for i in range(parts)]
    rows = torch.cat([part.train_inputs for part in parts_]).flatten(1)
    expected = digits.train_inputs.flatten(1)
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, expected.tolist()))
    assert max(len(p.train_targets) for p in parts_) - min(len(p.train_targets) for p in parts_) <= 1
    assert all(torch.equal(part.test_inputs, digits.test_inputs) for part in parts_)


def test_too_many_parts_are_refused() -> None:
    with pytest.raises(TickdslError, match="10 classes into 12 parts"):
        datasets.take_part(datasets.load("digits"), by="classes", parts=12, index=0)


def _png(value: int, size: tuple[int, int] = (6, 6), mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, value if mode == "L" else (value, 0, 255 - value)).save(out, "PNG")
    return out.getvalue()


def _layout() -> dict[str, bytes]:
    return {
        f"{split}/{label}/{n}.png": _png(20 * n + 100 * (label == "dog"))
        for split, count in (("train", 5), ("test", 2))
        for label in ("cat", "dog")
        for n in range(count)
    }


def _write(kind: str, place: Path, content: dict[str, bytes]) -> Path:
    if kind == "folder":
        for name, image in content.items():
            (place / "images" / name).parent.mkdir(parents=True, exist_ok=True)
            (place / "images" / name).write_bytes(image)
        return place / "images"
    if kind == "zip":
        with zipfile.ZipFile(place / "images.zip", "w") as archive:
            for name, image in content.items():
                archive.writestr(f"prefix/{name}", image)
        return place / "images.zip"
    with tarfile.open(place / "images.tar.gz", "w:gz") as archive:
        for name, image in reversed(content.items()):
            info = tarfile.TarInfo(name)
            info.size = len(image)
            archive.addfile(info, io.BytesIO(image))
    return place / "images.tar.gz"


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_an_image_folder_is_read_from_folders_and_archives(tmp_path: Path, kind: str) -> None:
    path = _write(kind, tmp_path, _layout())
    options = {"path": str(path)}
    first = datasets.load("folder", root=tmp_path / "root", options=options)
    assert first.class_names == ("cat", "dog")
    assert first.shape == (3, 6, 6)
    assert first.train_targets.tolist() == [0] * 5 + [1] * 5
    assert first.train_inputs[:, 0, 0, 0].tolist() == [0, 20, 40, 60, 80, 100, 120, 140, 160, 180]
    kept = list((tmp_path / "root" / "decoded").glob("*.npz"))
    assert len(kept) == 1
    again = datasets.load("folder", root=tmp_path / "root", options=options)
    assert torch.equal(first.test_inputs, again.test_inputs)
    assert (
        first.fingerprint
        == again.fingerprint
        == datasets.fingerprint("folder", root=tmp_path / "root", options=options)
    )
    kept[0].write_bytes(b"torn")
    assert torch.equal(
        datasets.load("folder", root=tmp_path / "root", options=options).train_inputs, first.train_inputs
    )


def test_a_changed_image_changes_the_fingerprint(tmp_path: Path) -> None:
    path = _write("folder", tmp_path, _layout())
    before = datasets.fingerprint("folder", root=tmp_path / "root", options={"path": str(path)})
    (path / "train" / "cat" / "0.png").write_bytes(_png(255))
    assert datasets.fingerprint("folder", root=tmp_path / "root", options={"path": str(path)}) != before


def test_a_renamed_class_changes_the_fingerprint(tmp_path: Path) -> None:
    path = _write("folder", tmp_path, _layout())
    before = datasets.fingerprint("folder", root=tmp_path / "root", options={"path": str(path)})
    for split in ("train", "test"):
        (path / split / "cat").rename(path / split / "bat")
    assert datasets.fingerprint("folder", root=tmp_path / "root", options={"path": str(path)}) != before
    assert datasets.load("folder", root=tmp_path, options={"path": str(path)}).class_names == ("bat", "dog")


def test_grey_images_stay_grey_and_mixed_sizes_are_refused(tmp_path: Path) -> None:
    layout = {name: _png(50, mode="L") for name in _layout()}
    path = str(_write("folder", tmp_path, layout))
    assert datasets.load("folder", root=tmp_path, options={"path": path}).shape == (1, 6, 6)
    Path(path, "train/cat/0.png").write_bytes(_png(1, (4, 9)))
    with pytest.raises(TickdslError, match="9x4") as caught:
        datasets.load("folder", root=tmp_path, options={"path": path})
    assert "size=" in (caught.value.hint or "")
    assert datasets.load("folder", root=tmp_path, options={"path": path, "size": 5}).shape == (3, 5, 5)


def test_tiny_imagenet_is_tested_on_its_validation_images(tmp_path: Path) -> None:
    layout = {f"tiny-imagenet-200/train/n{c}/images/n{c}_0.JPEG": _png(c) for c in (1, 2)}
    layout |= {f"tiny-imagenet-200/val/images/val_{n}.JPEG": _png(n) for n in (0, 1)}
    layout["tiny-imagenet-200/val/val_annotations.txt"] = b"val_0.JPEG\tn2\t0\t0\t1\t1\nval_1.JPEG\tn1\t0\t0\t1\t1\n"
    with zipfile.ZipFile(tmp_path / "tiny-imagenet-200.zip", "w") as archive:
        for name, content in layout.items():
            archive.writestr(name, content)
    data = datasets.load("tiny-imagenet", root=tmp_path)
    assert data.class_names == ("n1", "n2")
    assert data.test_targets.tolist() == [0, 1]
    assert data.test_inputs[:, 0, 0, 0].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: [f.unlink() for f in p.glob("test/*/*")], "no images to test on"),
        (lambda p: (p / "train/cat/0.png").write_bytes(b"not an image"), "cannot read the image"),
        (lambda p: (p / "test/cat").rename(p / "test/cow"), "class cow has test images but no training images"),
    ],
)
def test_errors_in_a_folder_are_reported(tmp_path: Path, spoil, message: str) -> None:  # type: ignore[no-untyped-def]
    path = _write("folder", tmp_path, _layout())
    spoil(path)
    with pytest.raises(TickdslError, match=message):
        datasets.load("folder", root=tmp_path, options={"path": str(path)})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cifra10", {}, "unknown data set"),
        ("digits", {"sise": 3}, "no option `sise`"),
        ("digits", {"size": "big"}, "type int"),
        ("digits", {"size": 0.5}, "type int"),
        ("digits", {"samples": 5000}, "only 1,437 training images"),
        ("synthetic", {"classes": 1}, "at least 2"),
        ("folder", {}, "needs a path"),
        ("folder", {"path": "/no/such/folder"}, "does not exist"),
        ("tiny-imagenet", {}, "is missing"),
        ("mnist", {"path": "/no/such/folder"}, "is missing"),
    ],
)
def test_wrong_requests_are_refused(tmp_path: Path, name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(TickdslError, match=message):
        datasets.load(name, root=tmp_path, options=options)


def test_damaged_archives_and_idx_files_are_named(tmp_path: Path) -> None:
    path = _write("tar", tmp_path, _layout())
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(TickdslError, match=r"images\.tar\.gz"):
        datasets.load("folder", root=tmp_path, options={"path": str(path)})
    for content in (b"", b"\x00\x00\x08\x01", gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 9, 1]))):
        (tmp_path / "x.gz").write_bytes(content)
        with pytest.raises(TickdslError, match=r"x\.gz"):
            idx.parse(tmp_path / "x.gz")


def test_a_missing_data_set_that_cannot_be_fetched_says_what_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    for name, folder in (("mnist", "raw"), ("cifar10", "cifar-10-batches-py")):
        with pytest.raises(TickdslError) as caught:
            datasets.load(name, root=tmp_path)
        assert "cannot be downloaded" in caught.value.message
        assert folder in (caught.value.hint or "")


def test_a_missing_data_set_is_not_fetched_if_it_must_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*args: object, **kwargs: object) -> None:
        raise AssertionError("fetched")

    monkeypatch.setattr("urllib.request.urlopen", fetch)
    for name in ("mnist", "fashion-mnist", "cifar10", "cifar100"):
        with pytest.raises(TickdslError, match=f"{name} is missing"):
            datasets.load(name, root=tmp_path, download=False)
    assert datasets.load("digits", download=False).fingerprint == datasets.load("digits").fingerprint


@needs_real
def test_real_mnist_is_read_packed() -> None:
    mnist = datasets.load("mnist", root=REAL)
    assert mnist.train_inputs.shape == (60_000, 1, 28, 28)
    assert mnist.test_inputs.shape == (10_000, 1, 28, 28)
    assert mnist.mean.item() == pytest.approx(0.1307, abs=1e-4)
    assert mnist.std.item() == pytest.approx(0.3081, abs=1e-4)
    assert mnist.train_targets.bincount().tolist()[:3] == [5923, 6742, 5958]


@needs_real
@pytest.mark.slow
def test_real_cifar_images_are_read_from_their_archive(tmp_path: Path) -> None:
    options = {"path": str(REAL / "cifar10-jpeg.tar.gz")}
    cifar = datasets.load("folder", root=tmp_path, options=options)
    assert cifar.train_inputs.shape == (50_000, 3, 32, 32)
    assert cifar.test_targets.bincount().tolist() == [1000] * 10
    np.testing.assert_allclose(cifar.mean, [0.4914, 0.4822, 0.4465], atol=2e-3)
