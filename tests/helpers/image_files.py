"""Small image files in folders and archives."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def encoded(pixels: Any, mode: str | None = None, form: str = "PNG", **options: Any) -> bytes:
    """An image file of an array of pixels."""
    out = io.BytesIO()
    Image.fromarray(np.asarray(pixels), mode).save(out, form, **options)
    return out.getvalue()


def plain(value: int, size: tuple[int, int] = (6, 6)) -> bytes:
    """A PNG file of one colour; different values are different colours."""
    return encoded(np.full((*size, 3), (value % 256, value // 256, 255 - value % 256), np.uint8))


def two_classes(train: int = 5, test: int = 2) -> dict[str, bytes]:
    """Cats and dogs, in `train/` and `test/`."""
    return {
        f"{split}/{label}/{n}.png": plain(20 * n + 100 * (label == "dog") + 300 * (split == "test"))
        for split, count in (("train", train), ("test", test))
        for label in ("cat", "dog")
        for n in range(count)
    }


def write_folder(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_archive(path: Path, files: Mapping[str, bytes]) -> Path:
    """A zip or tar archive; the suffix says which, and how a tar is compressed."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    compression = {".gz": "gz", ".bz2": "bz2", ".xz": "xz"}.get(path.suffix, "")
    with tarfile.open(path, f"w:{compression}") as tar:
        for name, content in files.items():
            add_to_tar(tar, name, content)
    return path


def add_to_tar(tar: tarfile.TarFile, name: str, content: bytes = b"", **fields: Any) -> None:
    """Add a member with these fields of its header."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    tar.addfile(info, io.BytesIO(content))
