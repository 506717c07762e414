"""Data sets that users add: what a factory gives, looked at before anything is trained on it."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

import attrs
import numpy as np
from numpy.typing import NDArray

from tickdsl.plugins import PluginError, call_plugin, code_identity, load_plugin, require_plugin, type_in_words
from tickdsl.training.data.readers.raw_dataset import RawDataset

_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


class DataFactory(Protocol):
    """Reads a data set; `root` is the folder where data sets lie.

    The same pictures at each call. Further parameters with a default are options of `data` in plans; `size`,
    `channels` and `samples` are applied behind it unless it takes them itself.
    """

    def __call__(self, root: Path, /) -> RawDataset: ...


def read(name: str, root: Path, options: str) -> RawDataset:
    """What the plug-in `name` gives; `options` are its parameters as JSON. Raises PluginError for what is no data set.

    Read once in a process for equal arguments.
    """
    return _read(name, root, options, code_identity("data set", name))


@functools.lru_cache(maxsize=4)
def _read(name: str, root: Path, options: str, code_identity: str) -> RawDataset:
    plugin = require_plugin("data set", name)
    factory = cast(DataFactory, load_plugin(plugin))
    raw = call_plugin(plugin, cast(Callable[..., Any], factory), root, **json.loads(options))
    if not isinstance(raw, RawDataset):
        raise PluginError(
            f"`{name}` gives {type_in_words(raw)}, not a data set", "return a tickdsl.extending.RawDataset"
        )
    return _validated(name, raw)


def digest(raw: RawDataset) -> str:
    """SHA-256 over all pictures, labels and class names: what was read, wherever it came from."""
    digest_so_far = hashlib.sha256(json.dumps(raw.class_names).encode())
    for array_name in _ARRAYS:
        array: NDArray[Any] = getattr(raw, array_name)
        digest_so_far.update(f"{array_name} {array.dtype} {array.shape}".encode())
        digest_so_far.update(np.ascontiguousarray(array).data)
    return digest_so_far.hexdigest()


def _validated(name: str, raw: RawDataset) -> RawDataset:
    """The data set with labels as int64. Raises PluginError that says which array is wrong, and how."""
    arrays = {array_name: np.require(getattr(raw, array_name), requirements=("C", "W")) for array_name in _ARRAYS}
    classes = tuple(str(class_name) for class_name in raw.class_names)

    def error(array_name: str, problem: str, hint: str) -> PluginError:
        return PluginError(f"`{name}`: {array_name} {problem}", hint)

    for part in ("train", "test"):
        images, labels = (arrays[f"{part}_{array_name}"] for array_name in ("images", "labels"))
        if images.ndim != 4 or images.dtype != np.uint8:
            problem = f"is {images.dtype} {list(images.shape)}"
            raise error(f"{part}_images", problem, "give pictures uint8 [N, C, H, W], values 0 to 255")
        if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
            problem = f"is {labels.dtype} {list(labels.shape)}"
            raise error(f"{part}_labels", problem, "give labels int64 [N], counted from 0")
        if not 0 < len(images) == len(labels):
            problem = f"has {len(images)} pictures and {len(labels)} labels"
            raise error(part, problem, "give one label for each picture, and at least one picture")
        if labels.min() < 0 or labels.max() >= len(classes):
            problem = f"goes from {labels.min()} to {labels.max()}, with {len(classes)} class names"
            raise error(f"{part}_labels", problem, "count labels from 0, and name every class")
    if arrays["train_images"].shape[1:] != arrays["test_images"].shape[1:]:
        sizes = ["x".join(map(str, arrays[f"{part}_images"].shape[1:])) for part in ("train", "test")]
        raise error("train_images", f"is of {sizes[0]}, test_images of {sizes[1]}", "give both one shape")
    if len(classes) < 2:
        raise error("class_names", f"names {len(classes)}", "name two classes or more")
    labels = {array_name: arrays[array_name].astype(np.int64) for array_name in ("train_labels", "test_labels")}
    return attrs.evolve(raw, **{**arrays, **labels, "class_names": classes})
