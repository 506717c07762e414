"""The IDX files of MNIST and data sets like it, gzipped or not."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tickdsl.errors import TickdslError
from tickdsl.training.data.readers.raw_dataset import RawDataset

STEMS = (
    "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte",
)  # fmt: skip
_UINT8 = 0x08  # IDX's code for unsigned bytes
_MAX_DEFLATE_RATIO = 1032


def find(folders: list[Path]) -> list[Path] | None:
    """The four files, with or without `.gz`, in the first folder that has them all; None if no folder does."""
    for folder in folders:
        paths = [path for stem in STEMS for path in (folder / f"{stem}.gz", folder / stem) if path.is_file()]
        by_stem = {path.name.removesuffix(".gz"): path for path in paths}
        if len(by_stem) == len(STEMS):
            return [by_stem[stem] for stem in STEMS]
    return None


def read(files: list[Path], class_names: tuple[str, ...]) -> RawDataset:
    """Read a data set from its four IDX files, in the order of STEMS."""
    train_images, train_labels, test_images, test_labels = (parse(path) for path in files)
    return RawDataset(
        train_images[:, None], train_labels.astype(np.int64),
        test_images[:, None], test_labels.astype(np.int64), class_names,
    )  # fmt: skip


def parse(path: Path) -> NDArray[np.uint8]:
    """Read the array of an IDX file. Raises TickdslError if the file is damaged.

    No more is read than the file declares, and no more can be declared than its bytes can hold.
    """
    damaged = TickdslError(f"{path} is damaged: it is not a complete IDX file", "download it again")
    is_compressed = path.suffix == ".gz"
    most = path.stat().st_size * (_MAX_DEFLATE_RATIO if is_compressed else 1)
    try:
        with gzip.open(path) if is_compressed else path.open("rb") as file:
            start = file.read(4)
            if len(start) < 4 or start[2] != _UINT8:
                raise damaged
            sizes = np.frombuffer(file.read(4 * start[3]), dtype=">u4") if start[3] else np.zeros(0, ">u4")
            shape = tuple(int(size) for size in sizes)
            if len(shape) != start[3] or math.prod(shape) > most:
                raise damaged
            payload = file.read(math.prod(shape))
            if len(payload) != math.prod(shape) or file.read(1):  # the last byte of a gzip file brings its checksum
                raise damaged
    except (EOFError, gzip.BadGzipFile, zlib.error, ValueError) as error:
        raise damaged from error
    return np.frombuffer(payload, dtype=np.uint8).reshape(shape).copy()
