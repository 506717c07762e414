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

from tickdsl.plugins import PluginError, called, identity, kind_of, load, required
from tickdsl.training.data.readers.raw import Raw

_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


class DataFactory(Protocol):
    """Reads a data set; `root` is the folder where data sets lie.

    The same pictures at each call. Further parameters with a default are options of `data` in plans; `size`,
    `channels` and `samples` are applied behind it unless it takes them itself.
    """

    def __call__(self, root: Path, /) -> Raw: ...


def read(name: str, root: Path, options: str) -> Raw:
    """What the plug-in `name` gives; `options` are its parameters as JSON. Raises PluginError for what is no data set.

    Read once in a process for equal arguments.
    """
    return _read(name, root, options, identity("data set", name))


@functools.lru_cache(maxsize=4)
def _read(name: str, root: Path, options: str, code: str) -> Raw:
    plugin = required("data set", name)
    factory = cast(DataFactory, load(plugin))
    given = called(plugin, cast(Callable[..., Any], factory), root, **json.loads(options))
    if not isinstance(given, Raw):
        raise PluginError(f"`{name}` gives {kind_of(given)}, not a data set", "return a tickdsl.extending.Raw")
    return _sound(name, given)


def digest(raw: Raw) -> str:
    """SHA-256 over all pictures, labels and class names: what was read, wherever it came from."""
    found = hashlib.sha256(json.dumps(raw.class_names).encode())
    for word in _ARRAYS:
        array: NDArray[Any] = getattr(raw, word)
        found.update(f"{word} {array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _sound(name: str, given: Raw) -> Raw:
    """The data set with labels as int64. Raises PluginError that says which array is wrong, and how."""
    arrays = {word: np.require(getattr(given, word), requirements=("C", "W")) for word in _ARRAYS}
    classes = tuple(str(each) for each in given.class_names)

    def wrong(word: str, what: str, way_out: str) -> PluginError:
        return PluginError(f"`{name}`: {word} {what}", way_out)

    for part in ("train", "test"):
        images, labels = (arrays[f"{part}_{word}"] for word in ("images", "labels"))
        if images.ndim != 4 or images.dtype != np.uint8:
            what = f"is {images.dtype} {list(images.shape)}"
            raise wrong(f"{part}_images", what, "give pictures uint8 [N, C, H, W], values 0 to 255")
        if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
            what = f"is {labels.dtype} {list(labels.shape)}"
            raise wrong(f"{part}_labels", what, "give labels int64 [N], counted from 0")
        if not 0 < len(images) == len(labels):
            what = f"has {len(images)} pictures and {len(labels)} labels"
            raise wrong(part, what, "give one label for each picture, and at least one picture")
        if labels.min() < 0 or labels.max() >= len(classes):
            what = f"goes from {labels.min()} to {labels.max()}, with {len(classes)} class names"
            raise wrong(f"{part}_labels", what, "count labels from 0, and name every class")
    if arrays["train_images"].shape[1:] != arrays["test_images"].shape[1:]:
        sizes = ["x".join(map(str, arrays[f"{part}_images"].shape[1:])) for part in ("train", "test")]
        raise wrong("train_images", f"is of {sizes[0]}, test_images of {sizes[1]}", "give both one shape")
    if len(classes) < 2:
        raise wrong("class_names", f"names {len(classes)}", "name two classes or more")
    labels = {word: arrays[word].astype(np.int64) for word in ("train_labels", "test_labels")}
    return attrs.evolve(given, **{**arrays, **labels, "class_names": classes})
