"""Archives of images: damaged, cut short, hostile or odd ones are refused with the reason; others are read whole."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from image_files import add_to_tar, two_classes, write_archive

from tickdsl.errors import TickdslError
from tickdsl.training.data import datasets
from tickdsl.training.data.readers import archive_index, archives
from tickdsl.training.data.readers.archives import open_tree

FORMATS = ("tar", "tar.gz", "tar.bz2", "tar.xz", "zip")
FILES = {
    f"{split}/{label}/{n}.ppm": b"P6 2 2 255\n" + bytes(range(12))
    for split in ("train", "test")
    for label in ("cat", "dog")
    for n in range(3)
}


def read(path: Path) -> dict[str, bytes]:
    """The images in an archive, by name."""
    tree = open_tree(path)
    return {entry.name: content for entry, content in tree.read(tree.listing().entries)}


def archived(form: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write_archive(Path(folder, f"a.{form}"), FILES).read_bytes()


ARCHIVES = {form: archived(form) for form in FORMATS}
END_OF_TAR = 2 * 512 * len(FILES)


def write(folder: Path, content: bytes, name: str = "images") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_read_whole(tmp_path: Path, form: str) -> None:
    assert read(write(tmp_path, ARCHIVES[form])) == FILES  # the name does not matter


def test_fingerprints_of_plain_archives_are_those_of_older_versions(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for split, count in (("train", 3), ("test", 2)):
            for k, label in enumerate(("cat", "dog")):
                for n in range(count):
                    shade = 10 * n + 100 * k
                    image = b"P6 2 2 255\n" + bytes([shade, 0, 255 - shade] * 4)
                    add_to_tar(tar, f"{split}/{label}/{n}.ppm", image)
        add_to_tar(tar, "README.txt", b"notes")
    for size, expected in (
        (0, "32f4519d1852c863b1392d49f182a6bbcbf4533c0a388e1933f5ce38b54fee17"),
        (4, "e33095be01f17d1b363b043c547f535817cdba537de26eae40bff3c63a5c8405"),
    ):
        options = {"path": str(path), "size": size}
        assert datasets.load("folder", root=tmp_path, options=options).fingerprint == expected
        assert datasets.fingerprint("folder", root=tmp_path, options=options) == expected


# -- damage


@given(form=st.sampled_from(FORMATS), place=st.floats(0, 1))
@example(form="tar", place=(512 * 8 + 100) / len(ARCHIVES["tar"]))  # within a header
@example(form="tar", place=512 * 8 / len(ARCHIVES["tar"]))  # between two members
@example(form="tar.gz", place=1 - 4 / len(ARCHIVES["tar.gz"]))  # only the checksum is missing
def test_an_archive_that_was_cut_is_read_whole_or_refused(form: str, place: float) -> None:
    whole = ARCHIVES[form]
    cut = int(place * len(whole))
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), whole[:cut])
        try:
            images = read(path)
        except TickdslError as error:
            assert str(path) in error.message and error.hint
            assert form != "tar" or cut < END_OF_TAR + 512
        else:
            assert images == FILES
            assert cut == len(whole) or (form == "tar" and cut >= END_OF_TAR + 512)


@given(form=st.sampled_from(FORMATS), place=st.floats(0, 0.999), value=st.integers(0, 255))
@example(form="tar", place=512 * 8 / len(ARCHIVES["tar"]), value=0)
@example(form="zip", place=0.875, value=32)  # a flag that zipfile does not implement
def test_a_damaged_archive_loses_no_image_in_silence(form: str, place: float, value: int) -> None:
    damaged = bytearray(ARCHIVES[form])
    damaged[int(place * len(damaged))] = value
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), bytes(damaged))
        try:
            images = read(path)
        except TickdslError as error:
            assert str(path) in error.message
        else:  # a tar has checksums of its headers only; a zip's list of names has none
            assert sorted(images.values()) == sorted(FILES.values()) or form in ("tar", "zip")
            assert len(images) in (len(FILES), len(FILES) - 1)


def _several_tars() -> bytes:
    return ARCHIVES["tar"] + ARCHIVES["tar"]


def _tar(*members: tuple[str, bytes, dict[str, Any]], **options: Any) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **options) as tar:
        for name, content, fields in members:
            add_to_tar(tar, name, content, **fields)
    return out.getvalue()


def _zip(more: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in {**FILES, **more}.items():
            archive.writestr(name, content)
    return out.getvalue()


def _with_zip_field(offset: int, value: int, file: bytes = ARCHIVES["zip"]) -> bytes:
    """Set a 16-bit field of the first member in the archive's list."""
    changed = bytearray(file)
    struct.pack_into("<H", changed, file.index(b"PK\x01\x02") + offset, value)
    return bytes(changed)


def _with_end_count(count: int) -> bytes:
    file = bytearray(ARCHIVES["zip"])
    struct.pack_into("<H", file, file.rindex(b"PK\x05\x06") + 10, count)
    return bytes(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"not an archive" * 99, "is not a folder, a tar or a zip archive"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(600), "is a 7z archive, which is not supported"),
        (gzip.compress(b"not a tar"), "cut short"),
        (gzip.compress(b"not a tar" * 99), "a header is wrong"),
        (_several_tars(), "several archives in one file"),
        (bz2.compress(_several_tars()), "several archives in one file"),
        (_tar(("a.txt", b"", {"pax_headers": {"comment": "x" * (1 << 21)}})), "header of 2,097,"),
        (_tar(("disk", b"", {"type": tarfile.GNUTYPE_SPARSE})), "sparse"),
        (_tar(("a/0.png", b"1", {}), ("a/./0.png", b"2", {})), "`a/0.png` is in it twice"),
        (ARCHIVES["zip"][:-30], "the list of members at its end is missing"),
        (_with_zip_field(8, 1), r"`train/cat/0\.ppm` is encrypted"),
        (_with_zip_field(10, 9), "compressed with deflate64"),
        (_with_zip_field(10, 77), "compressed with method 77"),
        (_with_zip_field(28, 0), "is damaged"),  # a name without letters
        (_with_zip_field(44, 0xFFFF), "is damaged"),  # an offset far outside
        (_with_end_count(5), "lists 12 members and should have 5"),
        (_zip({"./train/cat/0.ppm": b"2"}), "is in it twice"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # archives hold the time
)  # fmt: skip
def test_an_archive_that_cannot_be_used_says_why(tmp_path: Path, content: bytes, message: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(TickdslError, match=message) as caught:
        read(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_an_encrypted_file_that_is_no_image_is_left_alone(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.zip", {"LICENSE": b"x", **FILES})
    assert read(write(tmp_path, _with_zip_field(8, 1, path.read_bytes()))) == FILES


# -- odd ones that are whole


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_an_archive_compressed_in_pieces_is_read_whole(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    tar = ARCHIVES["tar"]
    assert read(write(tmp_path, compress(tar[:3000]) + compress(tar[3000:]))) == FILES


def test_a_zip_with_backslashes_a_comment_or_a_program_before_it_is_read(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.comment = b"PK made on Windows"
        for name, content in FILES.items():
            info = zipfile.ZipInfo(name)
            info.filename = name.replace("/", "\\")
            archive.writestr(info, content)
    assert read(write(tmp_path, out.getvalue(), "a")) == FILES
    assert read(write(tmp_path, b"#!/bin/sh\n" + bytes(600) + ARCHIVES["zip"], "b")) == FILES


# -- links


def _linked(kind: str) -> bytes:
    """The images of FILES; `train/dog` is a link to a folder, and an image of the test set a link to another."""
    kept = {name: content for name, content in FILES.items() if not name.startswith("train/dog/")}
    kept |= {name.replace("train/dog", "pool/dogs"): c for name, c in FILES.items() if name.startswith("train/dog/")}
    del kept["test/dog/2.ppm"]
    links = {"train/dog": "../pool/dogs", "test/dog/2.ppm": "../cat/../dog/1.ppm"}
    out = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(out, "w") as archive:
            for name, content in kept.items():
                archive.writestr(name, content)
            for name, target in links.items():
                info = zipfile.ZipInfo(name)
                info.external_attr = 0o120777 << 16
                archive.writestr(info, target)
        return out.getvalue()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        add_to_tar(tar, "train/dog", type=tarfile.SYMTYPE, linkname=links["train/dog"])
        for name, content in kept.items():
            add_to_tar(tar, name, content)
        hard = {"type": tarfile.LNKTYPE, "linkname": "test/dog/1.ppm"}
        add_to_tar(tar, "test/dog/2.ppm", **hard)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_links_within_an_archive_are_followed(tmp_path: Path, kind: str) -> None:
    images = read(write(tmp_path, _linked(kind)))
    assert {name: content for name, content in images.items() if not name.startswith("pool/")} == FILES


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "a/c", "b/c", "c.png"]),
        st.sampled_from(["a", "b", "a/c", ".", "..", "b/c", "x.png"]),
    )
)
def test_links_that_lead_to_each_other_end(links: dict[str, str]) -> None:
    index = archive_index.ArchiveIndex()
    index.add_file("x.png", 1)
    index.add_file("a/y.png", 1)
    for name, target in links.items():
        index.add_link(name, target)
    try:
        assert len(index.listing().entries) < 20
    except TickdslError as error:
        assert "c.png" in error.message


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../x.png", "missing.png", "0.png"])
def test_a_link_out_of_the_archive_is_refused(tmp_path: Path, target: str) -> None:
    link = ("train/cat/0.png", b"", {"type": tarfile.SYMTYPE, "linkname": target})
    with pytest.raises(TickdslError, match=r"`train/cat/0\.png` is a link to .*, which is not in it"):
        read(write(tmp_path, _tar(link)))


# -- memory


@pytest.mark.parametrize("form", ["tar.gz", "zip"])
def test_members_that_are_no_images_are_never_read_whole(tmp_path: Path, form: str) -> None:
    path = write_archive(tmp_path / f"a.{form}", {**two_classes(), "weights.bin": bytes(1 << 24)})
    tracemalloc.start()
    try:
        assert len(read(path)) == len(two_classes())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 22


@pytest.mark.parametrize("form", FORMATS)
def test_an_image_that_declares_too_many_bytes_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(archives, "MAX_IMAGE_BYTES", 1 << 20)
    path = write_archive(tmp_path / f"a.{form}", {**two_classes(), "train/cat/huge.png": bytes((1 << 20) + 1)})
    with pytest.raises(TickdslError, match=r"`train/cat/huge\.png` has 1,048,577 bytes"):
        open_tree(path).listing()


# -- names

HOSTILE = "\x1b]52;c;aGk=\x07\n\u202egnp.\udcff"


@pytest.mark.parametrize(
    "members",
    [
        [(f"train/{HOSTILE}/0.png", b"1", {}), (f"train/./{HOSTILE}/0.png", b"2", {})],
        [(f"train/{HOSTILE}/0.png", b"", {"type": tarfile.SYMTYPE, "linkname": HOSTILE})],
        [(f"{split}/{label}/{HOSTILE}.png", b"no image", {}) for split in ("train", "test") for label in "ab"],
        [(f"{split}/{HOSTILE}/0.ppm", FILES["train/cat/0.ppm"], {}) for split in ("train", "test")],
        [(f"{HOSTILE}{n}/0.ppm", FILES["train/cat/0.ppm"], {}) for n in range(2)],
    ],
)
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_names_in_an_archive_do_not_reach_the_terminal(tmp_path: Path, members: Any, share: float) -> None:
    path = write(tmp_path, _tar(*members, format=tarfile.GNU_FORMAT))
    with pytest.raises(TickdslError) as caught:
        datasets.load("folder", root=tmp_path / "root", options={"path": str(path), "test": share})
    assert (caught.value.message + caught.value.hint).isprintable()


def test_skipped_names_are_shown_on_one_line(tmp_path: Path) -> None:
    listing = open_tree(write(tmp_path, _tar((f".{HOSTILE}/0.png", b"1", {}), format=tarfile.GNU_FORMAT))).listing()
    (note,) = listing.notes()
    assert note.isprintable()
