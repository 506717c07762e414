"""Data sets from plug-ins, checked before anything is trained on them."""

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
from tickdsl.plurals import plural
from tickdsl.training.data.readers.raw_dataset import RawDataset
from tickdsl.training.tasks import CLASSIFY, BadTargets, find_task

_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


class DataFactory(Protocol):
    """A plug-in's data set: reads it, from files in the data folder `root` if it has any.

    Return the same images at every call. Further parameters with defaults become options of `data` in plans; tickdsl
    applies `size`, `channels` and `samples` to the result unless the factory has parameters of these names.
    """

    def __call__(self, root: Path, /) -> RawDataset: ...


def read(name: str, root: Path, options: str) -> RawDataset:
    """Read the data set of the plug-in `name`. options: the factory's arguments as JSON.

    The factory runs once per process for equal arguments. Raises PluginError if it returns no valid data set.
    """
    return _read(name, root, options, code_identity("data set", name))


@functools.lru_cache(maxsize=4)
def _read(name: str, root: Path, options: str, code_identity: str) -> RawDataset:
    plugin = require_plugin("data set", name)
    factory = cast(DataFactory, load_plugin(plugin))
    raw = call_plugin(plugin, cast(Callable[..., Any], factory), root, **json.loads(options))
    if not isinstance(raw, RawDataset):
        raise PluginError(
            f"`{name}` returns {type_in_words(raw)}, not a data set", "return a tickdsl.extending.RawDataset"
        )
    return _validated(name, raw)


def digest(raw: RawDataset) -> str:
    """The hex SHA-256 of all images, targets and names, and of the task unless it is classification."""
    named = raw.class_names if raw.task == CLASSIFY.name else [raw.task, raw.class_names]
    sha256 = hashlib.sha256(json.dumps(named).encode())
    for array_name in _ARRAYS:
        array: NDArray[Any] = getattr(raw, array_name)
        sha256.update(f"{array_name} {array.dtype} {array.shape}".encode())
        sha256.update(np.ascontiguousarray(array).data)
    return sha256.hexdigest()


def _validated(name: str, raw: RawDataset) -> RawDataset:
    """The data set with its targets as the task needs them. Raises PluginError if an array is wrong; it says how."""
    arrays = {array_name: np.require(getattr(raw, array_name), requirements=("C", "W")) for array_name in _ARRAYS}
    names, task = tuple(str(name) for name in raw.class_names), find_task(raw.task)

    def error(array_name: str, problem: str, hint: str) -> PluginError:
        return PluginError(f"`{name}`: {array_name} {problem}", hint)

    for part in ("train", "test"):
        images, targets = (arrays[f"{part}_{array_name}"] for array_name in ("images", "labels"))
        if images.ndim != 4 or images.dtype != np.uint8:
            problem = f"is {images.dtype} {list(images.shape)}"
            raise error(f"{part}_images", problem, "return images as uint8 [N, C, H, W], with values from 0 to 255")
        if not targets.ndim or not 0 < len(images) == len(targets):
            what = "label" if task.has_classes else "target"
            problem = f"has {plural(len(images), 'image')} and {plural(len(np.atleast_1d(targets)), what)}"
            raise error(part, problem, f"return one {what} per image, and at least one image")
        try:
            arrays[f"{part}_labels"] = task.as_targets(targets, names)
        except BadTargets as found:
            raise error(f"{part}_labels", found.problem, found.hint) from found
    if arrays["train_images"].shape[1:] != arrays["test_images"].shape[1:]:
        sizes = ["x".join(map(str, arrays[f"{part}_images"].shape[1:])) for part in ("train", "test")]
        raise error("train_images", f"has shape {sizes[0]}, test_images {sizes[1]}", "return both with the same shape")
    shapes = [list(arrays[f"{part}_labels"].shape[1:]) for part in ("train", "test")]
    if shapes[0] != shapes[1]:
        raise error("train_labels", f"has shape {shapes[0]} per image, test_labels {shapes[1]}", "return both alike")
    if task.has_classes and len(names) < 2:
        raise error("class_names", f"has {plural(len(names), 'name')}", "name at least two classes")
    return attrs.evolve(raw, **arrays, class_names=task.output_names(arrays["train_labels"], names))
