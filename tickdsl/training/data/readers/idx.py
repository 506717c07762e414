"""The IDX files of MNIST and data sets like it, gzipped or not."""

from __future__ import annotations

import gzip
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
    """Read the array of an IDX file. Raises TickdslError if the file is damaged."""
    damaged = TickdslError(f"{path} is damaged: it is not a complete IDX file", "download it again")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise damaged from error
    if len(content) < 4 or content[2] != _UINT8:
        raise damaged
    dimensions = content[3]
    shape = np.frombuffer(content[4 : 4 + 4 * dimensions], dtype=">u4")
    payload = content[4 + 4 * dimensions :]
    if len(shape) != dimensions or len(payload) != int(np.prod(shape, dtype=np.int64)):
        raise damaged
    return np.frombuffer(payload, dtype=np.uint8).reshape(tuple(int(n) for n in shape)).copy()
