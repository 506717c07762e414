"""Published shifted test sets of CIFAR-10, read from the data folder if their files are there.

CIFAR-10-C (Hendrycks & Dietterich, ICLR 2019): `CIFAR-10-C/*.npy`, uint8 [50000, 32, 32, 3], with 10,000 images per
severity, and `labels.npy`. CIFAR-10.2 (Lu et al., 2020): `cifar102_test.npz` with `images`, uint8
[N, 32, 32, 3], and `labels`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import numpy as np
import torch
from torch import Tensor

from tickdsl.errors import TickdslError
from tickdsl.metrics.corruptions import SEVERITIES
from tickdsl.plurals import plural
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.data.file_digests import files_digest

CIFAR_10_C, CIFAR_10_2 = "cifar-10-c", "cifar-10.2"
_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_SHAPE = (3, 32, 32)
_LABELS = "labels.npy"


@attrs.frozen(eq=False)
class ShiftedTestSet:
    """Images, uint8 [N, C, H, W], and labels, int64 [N], of one kind of shift; `severity` is 0 if it has no degrees."""

    benchmark: str
    kind: str
    severity: int
    images: Tensor
    labels: Tensor


def benchmark_digests(root: Path) -> dict[str, str]:
    """The benchmarks in a data folder, each with the SHA-256 of its files."""
    return {name: files_digest(paths) for name, paths in _benchmark_files(root).items() if paths}


def require_unchanged(root: Path, digests: Mapping[str, str]) -> None:
    """Raise TickdslError if the files of a benchmark are others than those with these digests."""
    found = benchmark_digests(root)
    for name, digest in digests.items():
        if found.get(name) != digest:
            raise TickdslError(
                f"the files of {name} in {root} changed after the plan was read",
                "run the plan again: it measures anew what depends on them",
            )


def applies_to(data: Dataset) -> bool:
    """Whether a data set has the classes of CIFAR-10, in order, and its image size, whatever it was read from."""
    return data.class_names == _CLASSES and data.shape == _SHAPE


def read_shifted_sets(root: Path) -> Iterator[ShiftedTestSet]:
    """Read all shifted test sets of a data folder, one by one. Raises TickdslError for an invalid file."""
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
            raise _damaged_file_error(path, f"{plural(len(images), 'image')} but {plural(len(labels), 'label')}")
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
    return TickdslError(f"{path} is not a valid benchmark file: {why}", "download it again, or remove it")
