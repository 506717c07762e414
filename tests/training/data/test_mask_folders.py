"""Folders of images and masks as people have them: palettes, grey values, archives; mistakes that name the file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_files import encoded, plain, write_archive, write_folder
from PIL import Image

from tickdsl.errors import TickdslError
from tickdsl.training import models
from tickdsl.training.data import datasets
from tickdsl.training.data.streaming.images import StreamedImages, in_memory
from tickdsl.training.loop import train
from tickdsl.training.recipes.recipe import Recipe

_COLOURS = (np.arange(256)[:, None] * [[7, 3, 5]] % 256).astype(np.uint8)


def mask(values: Any, palette: bool = False, form: str = "PNG") -> bytes:
    """A grey mask, or one with a palette."""
    array = np.asarray(values, np.uint8)
    if not palette:
        return encoded(array, form=form)
    image = Image.fromarray(array, "P")
    image.putpalette(_COLOURS.tobytes())
    out = io.BytesIO()
    image.save(out, form)
    return out.getvalue()


def pixels(number: int, size: tuple[int, int] = (6, 6), high: int = 3) -> np.ndarray:
    return np.random.default_rng(number).integers(0, high, size)


def files(train: int = 4, test: int = 2, **more: Any) -> dict[str, bytes]:
    found = {}
    for split, count in (("train", train), ("test", test)):
        for n in range(count):
            number = n + 100 * (split == "test")
            found[f"{split}/images/{n}.png"] = plain(20 * number)
            found[f"{split}/masks/{n}.png"] = mask(pixels(number), **more)
    return found


def load(path: Path, **options: Any) -> datasets.Dataset:
    return datasets.load("masks", root=path.parent / "root", options={"path": str(path), **options})


def problem(path: Path, **options: Any) -> str:
    with pytest.raises(TickdslError) as caught:
        load(path, **options)
    return f"{caught.value.message} | {caught.value.hint}"


@pytest.mark.parametrize("palette", [False, True])
@pytest.mark.parametrize("kind", ["folder", "f.zip", "f.tar.gz"])
def test_masks_are_read_as_classes(tmp_path: Path, palette: bool, kind: str) -> None:
    found = files(palette=palette)
    path = write_folder(tmp_path / "f", found) if kind == "folder" else write_archive(tmp_path / kind, found)
    for _ in range(2):  # decoded, then from the cache
        data = load(path)
        assert data.task.name == "segment" and data.shape == (3, 6, 6)
        assert data.class_names == ("class 0", "class 1", "class 2")
        expected = np.stack([pixels(n) for n in range(4)])
        assert torch.equal(data.train_targets, torch.from_numpy(expected).byte())
        assert torch.equal(data.test_targets, torch.from_numpy(np.stack([pixels(100), pixels(101)])).byte())
        assert data.train_inputs[1].flatten(1).unique(dim=1).numel() == 3
    assert datasets.fingerprint("masks", root=tmp_path, options={"path": str(path)}) == data.fingerprint


def test_masks_belong_to_the_image_of_their_name(tmp_path: Path) -> None:
    """In folders below, and with other suffixes."""
    found = {
        f"data/train/images/{n // 2}/{n}.jpg": encoded(np.full((6, 6), 20 * n, np.uint8), form="JPEG") for n in range(4)
    }
    found |= {f"data/train/masks/{n // 2}/{n}.bmp": mask(np.full((6, 6), n), form="BMP") for n in range(4)}
    found |= {"data/val/images/a.png": plain(1), "data/val/masks/a.tif": mask(np.full((6, 6), 3), form="TIFF")}
    data = load(write_folder(tmp_path / "f", found))
    assert data.train_targets[:, 0, 0].tolist() == [0, 1, 2, 3] and data.test_targets.unique().tolist() == [3]
    assert data.train_inputs[:, 0, 0, 0].tolist() == pytest.approx([0, 20, 40, 60], abs=2)


def test_a_share_is_tested_on_where_there_is_no_test_set(tmp_path: Path) -> None:
    found = {name.removeprefix("train/"): content for name, content in files(10, 0).items()}
    path = write_folder(tmp_path / "f", found)
    data = load(path, test=0.2)
    assert len(data.train_targets) == 8 and len(data.test_targets) == 2
    assert "there is images/, but no train/images | add test=20%" in problem(path)
    path = write_folder(tmp_path / "g", files())
    assert "there are test images in test/ already | leave out test=, or remove test/" in problem(path, test=0.2)


def test_masks_are_resized_to_the_nearest_pixel(tmp_path: Path) -> None:
    found = files()
    found["train/images/0.png"], found["train/masks/0.png"] = plain(5, (9, 12)), mask(pixels(0, (9, 12)))
    path = write_folder(tmp_path / "f", found)
    assert "images differ in size (6x6, 9x12, …) | add size=64" in problem(path)
    data = load(path, size=3)
    assert data.train_targets.shape == (4, 3, 3) and data.train_inputs.shape == (4, 3, 3, 3)
    assert torch.equal(data.train_targets[1], torch.from_numpy(pixels(1)[1::2, 1::2]).byte())
    assert set(data.train_targets.unique().tolist()) <= {0, 1, 2}


def test_pixels_without_a_label_are_no_class(tmp_path: Path) -> None:
    found = files() | {"train/masks/0.png": mask(np.full((6, 6), 255))}
    data = load(write_folder(tmp_path / "f", found))
    assert data.classes == 3 and (data.train_targets[0] == 255).all()


def test_the_number_of_classes_can_be_given(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "f", files())
    assert load(path, classes=5).classes == 5
    found = problem(path, classes=2)
    assert "the mask train/masks/0.png has 2 at row " in found and "use 0 to 1 for classes" in found
    assert load(path, classes=5).fingerprint != load(path).fingerprint


def test_binary_masks_have_two_classes(tmp_path: Path) -> None:
    found = {name: encoded(pixels(1) > 1) if "masks" in name else content for name, content in files().items()}
    data = load(write_folder(tmp_path / "f", found))
    assert data.classes == 2 and data.train_targets.unique().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train/masks/1.png": None}, "train/images/1.png has no mask | add train/masks/1.png, or remove it"),
        ({"train/images/1.png": None}, "the mask train/masks/1.png has no image | add the image, or remove the mask"),
        ({"train/masks/1.png": mask(pixels(1, (5, 6)))}, "train/masks/1.png has 5x6 pixels, its image 6x6 | make them"),
        ({"test/masks/0.png": plain(3)}, "the mask test/masks/0.png has colours (RGB) | save it with a palette"),
        ({"train/masks/1.png": b"no"}, "cannot read the mask train/masks/1.png: "),
        ({"train/images/1.png": b"no"}, "cannot read the image train/images/1.png: it is damaged"),
        ({"train/images/1.bmp": plain(2)}, "train/images/1.bmp and train/images/1.png have the same name | remove one"),
        (
            {"train/masks/1.png": encoded(np.array([[300] * 6] * 6, np.uint16))},
            "train/masks/1.png has 300 at row 0, column 0 | use 0 to 254 for classes, and 255 for pixels without",
        ),
    ],
)
def test_mistakes_name_the_file(tmp_path: Path, change: dict[str, bytes | None], message: str) -> None:
    found = {name: content for name, content in (files() | change).items() if content is not None}
    assert message in problem(write_folder(tmp_path / "f", found))


def test_masks_of_a_format_that_changes_values_are_refused(tmp_path: Path) -> None:
    found = files()
    found["train/masks/0.jpg"] = encoded(np.zeros((6, 6), np.uint8), form="JPEG")
    del found["train/masks/0.png"]
    assert "train/masks/0.jpg is in a format that changes values | save masks as PNG" in problem(
        write_folder(tmp_path / "f", found)
    )


def test_folders_of_another_layout_are_refused(tmp_path: Path) -> None:
    layout = "it must contain train/images, train/masks, test/images and test/masks"
    path = write_folder(tmp_path / "f", {"train/cat/1.png": plain(1)})
    assert f"there are no images in train/images | {layout}" in problem(path)
    assert "there are no images in images/ | it must contain images/ and masks/" in problem(path, test=0.2)
    path = write_folder(tmp_path / "g", {name: content for name, content in files().items() if "test" not in name})
    assert f"there are no images in test/images | {layout}" in problem(path)
    unlabelled = {name: mask(np.full((6, 6), 255)) if "test/masks" in name else b for name, b in files().items()}
    assert "the array has no pixel with a label" in problem(write_folder(tmp_path / "h", unlabelled))
    with pytest.raises(TickdslError, match="`data masks` needs a path"):
        datasets.load("masks")


def test_images_outside_are_skipped_and_named(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "f", files() | {"overview.png": plain(1)})
    note = "skipped 1 image outside the folders that are read: `overview.png`"
    assert load(path).notes == (note,)
    assert datasets.skipped("masks", root=tmp_path, options={"path": str(path)}) == (note,)
    archive = write_archive(tmp_path / "f.zip", files() | {"overview.png": plain(1)})
    assert load(archive).notes == (note,)


@pytest.mark.parametrize("kind", ["folder", "f.zip"])
@pytest.mark.parametrize("options", [{}, {"size": 8}, {"validation": 0.3}, {"samples": 9}], ids=str)
def test_streamed_images_with_masks_are_the_resident_ones(tmp_path: Path, kind: str, options: dict[str, Any]) -> None:
    found = files(train=12, test=5)
    path = write_folder(tmp_path / "f", found) if kind == "folder" else write_archive(tmp_path / kind, found)
    ours, theirs = (load(path, load=how, **options) for how in ("stream", "resident"))
    assert ours.fingerprint == theirs.fingerprint and ours.class_names == theirs.class_names
    assert torch.equal(ours.mean, theirs.mean) and torch.equal(ours.std, theirs.std)
    sets = ((ours.train_inputs, ours.train_targets), ours.test_set, ours.validation_set or ())
    others = ((theirs.train_inputs, theirs.train_targets), theirs.test_set, theirs.validation_set or ())
    for (one, other), place in zip(zip(sets, others, strict=True), ("train", "test", "validation"), strict=True):
        assert len(one) == len(other) == (2 if place != "validation" or "validation" in options else 0)
        if one and other:
            assert isinstance(one[0], StreamedImages) and isinstance(other[0], torch.Tensor)
            assert torch.equal(in_memory(one[0]), other[0]) and torch.equal(one[1], other[1])


@pytest.mark.parametrize("augment", [(), ("crop", "flip", "rotation")], ids=str)
def test_a_segmentation_has_the_same_bits_streamed_and_resident(tmp_path: Path, augment: tuple[str, ...]) -> None:
    path = write_folder(tmp_path / "f", files(train=12, test=5))
    recipe = Recipe(length="2ep", lr=0.05, batch=5, augment=augment)
    trained = []
    for how in ("stream", "resident"):
        data = load(path, load=how, size=8, validation=0.3)
        network = models.create("unet", classes=3, shape=data.shape, seed=0, options={"width": 0.25})
        history = train(network, data, recipe, seed=3)
        trained.append((network.state_dict(), history.epochs[-1].watched))
    (ours, figures), (theirs, expected) = trained
    assert figures == expected and all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_a_share_for_testing_is_the_same_streamed(tmp_path: Path) -> None:
    found = {name.removeprefix("train/"): content for name, content in files(train=10, test=0).items()}
    path = write_folder(tmp_path / "f", found)
    ours, theirs = (load(path, load=how, test=0.3) for how in ("stream", "resident"))
    assert torch.equal(in_memory(ours.test_inputs), theirs.test_inputs)
    assert torch.equal(ours.test_targets, theirs.test_targets)
