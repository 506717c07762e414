"""Shifted test sets of CIFAR-10 that others published, where somebody has put their files into the data folder.

CIFAR-10-C (Hendrycks & Dietterich, ICLR 2019): `CIFAR-10-C/*.npy`, uint8 [50000, 32, 32, 3], 10,000 pictures for each
of five severities, and `labels.npy`. CIFAR-10.2 (Lu et al., 2020): `cifar102_test.npz` with `images` uint8
[N, 32, 32, 3] and `labels`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import attrs
import numpy as np
import torch
from torch import Tensor

from tickdsl.errors import TickdslError
from tickdsl.metrics.corruptions import SEVERITIES
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.data.sources import files_digest

CIFAR_10_C, CIFAR_10_2 = "cifar-10-c", "cifar-10.2"
_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_SHAPE = (3, 32, 32)
_LABELS = "labels.npy"


@attrs.frozen(eq=False)
class ShiftedTestSet:
    """Pictures uint8 [N, C, H, W] with labels int64 [N] of one kind of shift; severity 0 where it has no degrees."""

    benchmark: str
    kind: str
    severity: int
    images: Tensor
    labels: Tensor


def benchmark_digests(root: Path) -> dict[str, str]:
    """The benchmarks that lie in a data folder -> SHA-256 of their files."""
    return {name: files_digest(paths) for name, paths in _benchmark_files(root).items() if paths}


def applies_to(data: Dataset) -> bool:
    """Whether a data set is CIFAR-10 at its size: these classes in this order, whatever it was read from."""
    return data.class_names == _CLASSES and data.shape == _SHAPE


def read_shifted_sets(root: Path) -> Iterator[ShiftedTestSet]:
    """All shifted test sets of a data folder, one by one. TickdslError where a file is not what it should be."""
    files = _benchmark_files(root)
    yield from _cifar_10_c(files[CIFAR_10_C])
    for path in files[CIFAR_10_2]:
        try:
            with np.load(path) as arrays:
                images, labels = arrays["images"], arrays["labels"]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise _damaged_file_error(path, str(error)) from error
        yield _shifted_test_set(path, CIFAR_10_2, "", 0, images, labels)


def _benchmark_files(root: Path) -> dict[str, list[Path]]:
    corrupted = sorted((root / "CIFAR-10-C").glob("*.npy"))
    if not any(path.name == _LABELS for path in corrupted):
        corrupted = []
    natural = root / "cifar102_test.npz"
    return {CIFAR_10_C: corrupted, CIFAR_10_2: [natural] if natural.is_file() else []}


def _cifar_10_c(paths: list[Path]) -> Iterator[ShiftedTestSet]:
    arrays = {path: _load_array(path) for path in paths}
    labels = next((array for path, array in arrays.items() if path.name == _LABELS), None)
    for path, images in arrays.items():
        if labels is None or path.name == _LABELS:
            continue
        if len(images) != len(labels) or len(images) % len(SEVERITIES):
            raise _damaged_file_error(path, f"{len(images)} pictures, {len(labels)} labels")
        per_severity = len(images) // len(SEVERITIES)
        for index, severity in enumerate(SEVERITIES):
            part = slice(per_severity * index, per_severity * (index + 1))
            yield _shifted_test_set(path, CIFAR_10_C, path.stem.replace("_", "-"), severity, images[part], labels[part])


def _load_array(path: Path) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise _damaged_file_error(path, str(error)) from error
    return array


def _shifted_test_set(
    path: Path, benchmark: str, kind: str, severity: int, images: np.ndarray, labels: np.ndarray
) -> ShiftedTestSet:
    if images.shape[1:] != (32, 32, 3) or images.dtype != np.uint8 or labels.shape != images.shape[:1]:
        raise _damaged_file_error(path, f"{images.dtype} {list(images.shape)} with labels {list(labels.shape)}")
    image_tensor = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return ShiftedTestSet(benchmark, kind, severity, image_tensor, torch.from_numpy(labels.astype(np.int64)))


def _damaged_file_error(path: Path, why: str) -> TickdslError:
    return TickdslError(f"{path} is not the file of the benchmark: {why}", "fetch it again, or move it away")
