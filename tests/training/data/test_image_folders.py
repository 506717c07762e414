"""Folders of images as people have them: deep and transparent images, links, system files, classes without a split."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from image_files import encoded, plain, two_classes, write_archive, write_folder
from PIL import Image

from tickdsl.errors import TickdslError
from tickdsl.training.data import datasets
from tickdsl.training.data.held_out import choose
from tickdsl.training.data.readers import file_entries, folder_tree
from tickdsl.training.data.readers.file_entries import Skipped
from tickdsl.training.data.readers.folder import ImageFolder
from tickdsl.training.data.readers.image_decoding import Scale, ValueRange, decode


def load(path: Path, **options: Any) -> datasets.Dataset:
    return datasets.load("folder", root=path.parent / "root", options={"path": str(path), **options})


def fingerprint(path: Path) -> str:
    return datasets.fingerprint("folder", root=path.parent / "root", options={"path": str(path)})


def hint(error: pytest.ExceptionInfo[TickdslError]) -> str:
    return error.value.hint or ""


def same_images(one: datasets.Dataset, other: datasets.Dataset) -> bool:
    names = ("train_inputs", "train_targets", "test_inputs", "test_targets")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


# -- fingerprints


def test_fingerprints_of_plain_images_are_those_of_older_versions(tmp_path: Path) -> None:
    files = {
        f"{split}/{label}/{n}.ppm": b"P6 2 2 255\n" + bytes([10 * n + 100 * k, 0, 255 - 10 * n - 100 * k] * 4)
        for split, count in (("train", 3), ("test", 2))
        for k, label in enumerate(("cat", "dog"))
        for n in range(count)
    }
    path = write_folder(tmp_path / "f", {**files, "README.txt": b"notes"})
    assert load(path).fingerprint == "857647fa7540d112d20171ac08afe814eccf3f49fc83972092077c699f565872"
    assert load(path, size=4).fingerprint == "dd192a72c0b45ea77721c1492e92bd19890322cfcef3656a1dc12e84d1452944"


def test_a_fingerprint_says_whether_images_had_to_be_converted(tmp_path: Path) -> None:
    """The bytes of the files do not tell: an opaque alpha channel changes nothing, a transparent pixel does."""
    images = {}
    for kind, alpha in (("opaque", 255), ("transparent", 254)):
        files = two_classes()
        files["train/cat/0.png"] = encoded(np.full((6, 6, 4), (9, 9, 9, alpha), np.uint8))
        images[kind] = ImageFolder(write_folder(tmp_path / kind, files), 0, 0.0, tmp_path / "cache")
    assert images["opaque"].rules() == ()
    assert images["transparent"].rules() == ("transparency",)
    for folder in images.values():
        assert fingerprint(folder.path) == load(folder.path).fingerprint


def test_data_that_change_while_they_are_read_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_folder(tmp_path / "f", two_classes())

    def meddling(name: str, content: bytes, size: int) -> Any:
        (path / "train/dog/4.png").write_bytes(plain(7))
        return decode(name, content, size)

    monkeypatch.setattr("tickdsl.training.data.readers.folder.decode", meddling)
    with pytest.raises(TickdslError, match="changed while they were read"):
        load(path)
    monkeypatch.undo()
    assert load(path).train_inputs[-1, 0, 0, 0] == 7  # what was read in between is not in the cache


def test_a_second_change_within_a_tick_of_the_clock_is_seen(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "f", two_classes())
    file = path / "train/cat/0.png"
    images = ImageFolder(path, 0, 0.0, tmp_path / "cache")
    digests = set()
    for value in range(50):  # as fast as possible, to the same size
        file.write_bytes(plain(value))
        digests.add(images.digest())
    assert len(digests) == 50


# -- deep and transparent images


def _deep_folder(folder: Path, convert: Any, suffix: str = "png", **options: Any) -> Path:
    """Images of three shades per class in 16 bits, each written by `convert`."""
    files = {}
    for split in ("train", "test"):
        for k, label in enumerate(("cat", "dog")):
            for n in range(3):
                values = np.arange(16, dtype=np.uint16).reshape(4, 4) * 257 * 4 + 257 * (60 * k + 20 * n)
                values[0, 0] = 65535
                files[f"{split}/{label}/{n}.{suffix}"] = encoded(convert(values), **options)
    return write_folder(folder, files)


@pytest.mark.parametrize(
    ("convert", "options"),
    [
        (lambda values: values, {}),
        (lambda values: values >> 4, {}),  # 12 bits in a file of 16
        (lambda values: values.astype(np.int32), {"suffix": "tif", "form": "TIFF"}),
        (lambda values: values, {"suffix": "pgm", "form": "PPM"}),
        (lambda values: (values / 65535).astype(np.float32), {"suffix": "tif", "form": "TIFF"}),
        (lambda values: (values * 0.01 - 300).astype(np.float32), {"suffix": "tif", "form": "TIFF"}),
    ],
    ids=["png", "12 bits", "tiff 32 bits", "pgm", "float", "any float"],
)
def test_deep_images_look_like_their_versions_of_8_bits(tmp_path: Path, convert: Any, options: Any) -> None:
    shallow = load(_deep_folder(tmp_path / "shallow", lambda values: (values // 257).astype(np.uint8)))
    deep = load(_deep_folder(tmp_path / "deep", convert, **options))
    assert deep.shape == shallow.shape == (1, 4, 4)
    difference = (deep.train_inputs.int() - shallow.train_inputs.int()).abs().max()
    assert difference <= (1 if options.get("form") != "TIFF" or "int" in str(convert) else 5)
    assert any("scaled to 0 to 255" in note for note in deep.notes)
    assert not shallow.notes


@given(st.lists(st.tuples(st.integers(0, 70_000), st.integers(0, 70_000)), min_size=1, max_size=5))
def test_a_scale_keeps_order_and_has_room_for_every_value(pairs: list[tuple[int, int]]) -> None:
    ranges = [ValueRange(min(pair), max(pair), whole=True) for pair in pairs]
    scale = Scale.of(ranges)
    values = np.array(sorted(value for pair in pairs for value in pair))
    scaled = scale.apply(values)
    assert (np.diff(scaled.astype(int)) >= 0).all()
    assert scale.low == 0 and max(values.max(), 255) <= scale.high < 2 * max(values.max(), 255) + 1
    assert (Scale.of([ValueRange(0, 255, whole=True)]).apply(np.arange(256)) == np.arange(256)).all()


def test_test_images_do_not_choose_the_scale(tmp_path: Path) -> None:
    path = _deep_folder(tmp_path / "f", lambda values: values >> 4)
    (path / "test/cat/0.png").write_bytes(encoded(np.full((4, 4), 60_000, np.uint16)))
    data = load(path)
    assert data.test_inputs[0].unique().tolist() == [255]
    assert data.train_inputs[0, 0, 0, 0] == 255


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = _deep_folder(tmp_path / "f", lambda v: (v / 65535).astype(np.float32), suffix="tif", form="TIFF")
    (path / "train/cat/0.tif").write_bytes(encoded(np.full((4, 4), np.nan, np.float32), form="TIFF"))
    with pytest.raises(TickdslError, match=r"train/cat/0\.tif.*not finite"):
        load(path)


@given(shade=st.integers(0, 255), alpha=st.integers(0, 255))
def test_transparent_pixels_are_shown_on_white(shade: int, alpha: int) -> None:
    expected = round(shade * alpha / 255 + 255 - alpha)
    colour = decode("x.png", encoded(np.full((2, 2, 4), (shade, shade, shade, alpha), np.uint8)), 0)
    grey = decode("x.png", encoded(np.full((2, 2, 2), (shade, alpha), np.uint8), "LA"), 0)
    for image, channels in ((colour, 3), (grey, 1)):
        assert image.pixels.shape == (2, 2, channels)
        assert np.abs(image.pixels.astype(int) - expected).max() <= 1
        assert image.blended == (alpha < 255)


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_transparent_colour_is_shown_on_white(mode: str) -> None:
    pixels = np.zeros((2, 2, 3) if mode == "RGB" else (2, 2), np.uint8)
    image = decode("x.png", encoded(pixels, mode, transparency=(0, 0, 0) if mode == "RGB" else 0), 0)
    assert image.pixels.min() == 255 and image.blended


# -- damaged images


def _samples() -> list[tuple[str, bytes]]:
    pixels = np.random.default_rng(0).integers(0, 255, (6, 5, 3), np.uint8)
    forms = {"png": "PNG", "ppm": "PPM", "tif": "TIFF", "gif": "GIF", "bmp": "BMP", "webp": "WEBP", "jpg": "JPEG"}
    return [(f"a.{suffix}", encoded(pixels, form=form)) for suffix, form in forms.items()]


SAMPLES = _samples()


@given(sample=st.sampled_from(SAMPLES), cut=st.floats(0, 1), place=st.floats(0, 0.999), value=st.integers(0, 255))
@example(sample=("a.png", SAMPLES[0][1][:8] + b"\0\0\0\x04IHDR" + bytes(12)), cut=1, place=0.999, value=0)
@example(sample=("a.ppm", b"P6\n3\x0f4\n255\n" + bytes(40)), cut=1, place=0.999, value=0)
@pytest.mark.filterwarnings("error")
def test_a_damaged_image_is_read_or_named(sample: tuple[str, bytes], cut: float, place: float, value: int) -> None:
    name, content = sample
    damaged = bytearray(content[: int(cut * len(content))])
    if damaged:
        damaged[int(place * len(damaged))] = value
    try:
        with mock.patch.object(Image, "MAX_IMAGE_PIXELS", 10_000):  # else damage can declare images that take seconds
            decode(name, bytes(damaged), 4)
    except TickdslError as error:
        assert name in error.message and "0x" not in error.message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX files")
def test_a_path_that_is_neither_a_folder_nor_a_file_is_said_to_be_there(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TickdslError, match="pipe is not a folder or an archive"):
        load(tmp_path / "pipe")


def test_a_header_without_a_number_is_damage_in_plain_english() -> None:
    with pytest.raises(TickdslError, match=r"cannot read the image x\.ppm: it is damaged, or not an image"):
        decode("x.ppm", b"P6\n9\x0e7\n255\n" + bytes(200), 0)


def test_an_image_that_declares_too_many_pixels_is_refused(tmp_path: Path) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + struct.pack(">I", 9) + b"IDAT"
    path = write_folder(tmp_path / "f", {**two_classes(), "train/cat/bomb.png": b"\x89PNG\r\n\x1a\n" + chunk})
    with pytest.raises(TickdslError, match=r"train/cat/bomb\.png.*3600000000 pixels"):
        load(path)


def test_a_file_too_large_for_an_image_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_folder(tmp_path / "f", two_classes())
    monkeypatch.setattr(folder_tree, "MAX_IMAGE_BYTES", 60)
    with pytest.raises(TickdslError, match=r"\.png has more than"):
        load(path)


# -- links


def test_links_to_files_and_class_folders_are_followed(tmp_path: Path) -> None:
    plain_folder = write_folder(tmp_path / "plain", two_classes())
    write_folder(tmp_path / "store", {name.replace("/", "-"): image for name, image in two_classes().items()})
    linked = tmp_path / "linked"
    for name in two_classes():
        (linked / name).parent.mkdir(parents=True, exist_ok=True)
        (linked / name).symlink_to(tmp_path / "store" / name.replace("/", "-"))
    folders = tmp_path / "folders"
    (folders / "train").mkdir(parents=True)
    for label in ("cat", "dog"):
        (folders / "train" / label).symlink_to(plain_folder / "train" / label)
    (folders / "test").symlink_to(plain_folder / "test")
    expected = load(plain_folder)
    assert same_images(load(linked), expected)
    assert same_images(load(folders), expected)
    (plain_folder / "test/cat/0.png").write_bytes(plain(3))
    assert load(folders).fingerprint != expected.fingerprint


def test_links_to_folders_above_end(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "f", two_classes())
    expected = load(path)
    (path / "train/cat/again").symlink_to(path)
    (path / "train/dog/self").symlink_to(path / "train/dog")
    data = load(path)
    assert same_images(data, expected) and data.fingerprint == expected.fingerprint
    assert data.notes == ("skipped 2 links to a folder above: `train/cat/again`, `train/dog/self`",)


def test_folders_that_link_to_each_other_many_times_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_tree, "_MAX_LINKED_FOLDERS", 50)
    for level in range(8):
        (tmp_path / f"deep/{level}").mkdir(parents=True)
        for name in "ab":
            (tmp_path / f"deep/{level}/{name}").symlink_to(f"../{level + 1}")
    (tmp_path / "deep/8").mkdir()
    with pytest.raises(TickdslError, match="more than 50 links to folders"):
        load(tmp_path / "deep")


@pytest.mark.parametrize("name", ["train/cat/x.png", "train/emu"])
def test_an_image_or_class_that_links_to_nothing_is_named(tmp_path: Path, name: str) -> None:
    path = write_folder(tmp_path / "f", two_classes())
    (path / "notes").symlink_to("notes")
    assert load(path).notes == ("skipped 1 broken link: `notes`",)
    (path / name).symlink_to("/no/such/place")
    with pytest.raises(TickdslError, match=f"{name} is a link to /no/such/place"):
        load(path)


# -- hidden and system files

SYSTEM_FILES = (
    ".DS_Store", "Thumbs.db", "train/Thumbs.db", "train/cat/desktop.ini", ".git/HEAD", "train/.git/x/0.png",
    "train/.ipynb_checkpoints/0-checkpoint.png", "__MACOSX/train/cat/._0.png", "train/cat/._0.png",
    "@eaDir/train/cat/0.png/SYNOPHOTO.jpg", "train/@eaDir/dog/x.jpg",
)  # fmt: skip


@pytest.mark.parametrize("form", ["folder", "zip", "tar.gz"])
def test_hidden_and_system_files_are_skipped_with_a_note(tmp_path: Path, form: str) -> None:
    def write(name: str, files: dict[str, bytes]) -> Path:
        path = tmp_path / (name if form == "folder" else f"{name}.{form}")
        return write_folder(path, files) if form == "folder" else write_archive(path, files)

    clean = load(write("clean", two_classes()))
    littered = load(write("littered", {**two_classes(), **dict.fromkeys(SYSTEM_FILES, b"\0\5\x16\7")}))
    assert same_images(littered, clean)
    assert littered.class_names == clean.class_names == ("cat", "dog")
    (note,) = littered.notes
    assert note.startswith("skipped 11 hidden or system files: `.DS_Store`, `.git`, `@eaDir`, …")
    assert (littered.fingerprint == clean.fingerprint) == (form == "folder")


def test_files_that_are_no_images_and_images_elsewhere_are_noted(tmp_path: Path) -> None:
    files = {**two_classes(), "train/cat/9.heic": b"x", "train/dog/list.csv": b"x", "LICENSE": b"x"}
    files |= {"extra/cat/0.png": plain(1), "val/cat/1.png": plain(2)}
    assert load(write_folder(tmp_path / "f", files)).notes == (
        "skipped 2 images outside the folders that are read: `extra/cat/0.png`, `val/cat/1.png`",
        "skipped 2 non-image files in class folders: `train/cat/9.heic`, `train/dog/list.csv`",
    )


def test_a_listing_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_entries, "MAX_IMAGES", 3)
    listing = file_entries.Listing()
    with pytest.raises(TickdslError, match="more than 3 images"):
        for n in range(4):
            listing.add(f"{n}.png", f"{n}.png", 1)
    monkeypatch.setattr(file_entries, "_MAX_COUNTED", 3)
    for n in range(9):
        listing.skip(Skipped.SYSTEM, f".{n}")
    assert listing.notes() == ("skipped 3 hidden or system files: `.0`, `.1`, `.2`",)


# -- classes without a split


def _class_folders(prefix: str = "", count: int = 10) -> dict[str, bytes]:
    labels = ("ant", "bee", "cow")
    return {f"{prefix}{label}/{n}.png": plain(20 * n + 250 * k) for k, label in enumerate(labels) for n in range(count)}


def test_class_folders_alone_are_refused_with_the_way_out(tmp_path: Path) -> None:
    for prefix in ("", "animals/"):
        with pytest.raises(TickdslError, match="has class folders, but no train/") as caught:
            load(write_folder(tmp_path / f"f{prefix}", _class_folders(prefix)))
        assert "add test=20%" in hint(caught)
    with pytest.raises(TickdslError, match="no images to test on") as caught:
        load(write_folder(tmp_path / "t", _class_folders("train/")))
    assert "add test=20%" in hint(caught)


@pytest.mark.parametrize("prefix", ["", "animals/", "train/", "x/train/"])
def test_a_share_of_each_class_becomes_the_test_set(tmp_path: Path, prefix: str) -> None:
    data = load(write_folder(tmp_path / "f", _class_folders(prefix)), test=0.2)
    assert data.class_names == ("ant", "bee", "cow")
    assert data.train_targets.bincount().tolist() == [8, 8, 8]
    assert data.test_targets.bincount().tolist() == [2, 2, 2]
    seen = {bytes(image.numpy().tobytes()) for image in data.train_inputs}
    assert not any(bytes(image.numpy().tobytes()) in seen for image in data.test_inputs)


def test_the_choice_depends_on_the_files_alone(tmp_path: Path) -> None:
    """Other names, sizes, an archive instead of a folder: the same images are tested on."""
    files = _class_folders()
    renamed = {
        f"{label}/{99 - int(name[:-4])}.png": c for (label, name), c in ((k.split("/"), v) for k, v in files.items())
    }
    first = load(write_folder(tmp_path / "f", files), test=0.3)
    tested = {tuple(image[:, 0, 0].tolist()) for image in first.test_inputs}
    for other in (
        load(write_folder(tmp_path / "g", renamed), test=0.3),
        load(write_archive(tmp_path / "h.tar.xz", files), test=0.3),
        load(tmp_path / "f", test=0.3, size=3),
    ):
        assert {tuple(image[:, 0, 0].tolist()) for image in other.test_inputs} == tested
    shares = (0.3, 0.5)
    assert len({load(tmp_path / "f", test=share).fingerprint for share in shares}) == 2


def test_a_share_beside_a_test_set_and_folders_of_parts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TickdslError, match="has test images in test/ already"):
        load(write_folder(tmp_path / "f", two_classes()), test=0.2)
    files = {name.replace("train", "Training").replace("test/", "Test/"): c for name, c in two_classes().items()}
    for options in ({}, {"test": 0.2}):
        with pytest.raises(TickdslError, match="`Test` would be a class"):
            load(write_folder(tmp_path / "g", files), **options)
    with pytest.raises(TickdslError, match="share below 1"):
        load(tmp_path / "f", test=1.5)


images_of_a_class = st.lists(st.integers(0, 40), min_size=2, max_size=40).filter(lambda images: len(set(images)) > 1)


@given(classes=st.lists(images_of_a_class, min_size=1, max_size=4), share=st.floats(0.01, 0.99), order=st.randoms())
def test_the_choice_is_stratified_and_keeps_copies_together(classes: list[list[int]], share: float, order: Any) -> None:
    """The images of a class are numbers below 41, some of them equal; no image is in two classes."""
    images = [(f"c{k}", bytes([k, image * 7 % 41])) for k, numbers in enumerate(classes) for image in numbers]
    tested = choose(*zip(*images, strict=True), share)
    by_image = dict(zip(images, tested, strict=True))
    assert [by_image[image] for image in images] == tested
    for k, numbers in enumerate(classes):
        count = sum(flag for (label, _), flag in zip(images, tested, strict=True) if label == f"c{k}")
        largest = max(numbers.count(n) for n in numbers)
        assert 0 < count < len(numbers)
        assert abs(count - share * len(numbers)) <= max(1.0, largest)
    order.shuffle(images)
    assert choose(*zip(*images, strict=True), share) == [by_image[image] for image in images]


def test_copies_in_two_classes_stay_on_one_side() -> None:
    labels, digests = ["a"] * 4 + ["b"] * 4, [bytes([n]) for n in (1, 2, 3, 4, 4, 3, 5, 6)]
    for share in (0.25, 0.5, 0.75):
        tested = dict(zip(digests, choose(labels, digests, share), strict=True))
        assert choose(labels, digests, share) == [tested[digest] for digest in digests]
    with pytest.raises(TickdslError, match="class a needs two different images"):
        choose(["a", "a"], [b"1", b"1"], 0.5)


# -- classes


def test_one_class_is_refused(tmp_path: Path) -> None:
    files = {name: content for name, content in two_classes().items() if "cat" in name}
    with pytest.raises(TickdslError, match="has one class, cat"):
        load(write_folder(tmp_path / "f", files))


def test_an_unreadable_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_folder(tmp_path / "f", two_classes())

    def refuse(*args: object) -> None:
        raise PermissionError(13, "Permission denied", str(path / "train/cat/0.png"))

    monkeypatch.setattr("tickdsl.training.data.file_digests._digest", refuse)
    with pytest.raises(TickdslError, match=r"cannot read .*train/cat/0\.png: Permission denied"):
        load(path)


def test_names_that_are_not_unicode_are_read(tmp_path: Path) -> None:
    files = {name.replace("dog", "h\udcf6nd").replace("4", "\udcff\n"): c for name, c in two_classes().items()}
    data = load(write_folder(tmp_path / "f", files))
    assert data.class_names == ("cat", "h\udcf6nd")
    assert load(tmp_path / "f").class_names == data.class_names  # from the cache
    assert load(write_archive(tmp_path / "f.tar", files)).class_names == data.class_names
