"""Data sets from plug-ins, checked before anything is trained on them."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import attrs
import numpy as np
from numpy.typing import NDArray

from tickdsl.errors import TickdslError
from tickdsl.plugins import PluginError, call_plugin, code_identity, load_plugin, require_plugin, type_in_words
from tickdsl.plurals import plural
from tickdsl.training.data.readers.named_arrays import NamedArrays, as_named_input, described, require_alike
from tickdsl.training.data.readers.raw_dataset import RawDataset

#: The arrays of a data set, with the names by which they are part of its digest.
_ARRAYS = {
    "train_inputs": "train_images",
    "train_targets": "train_labels",
    "test_inputs": "test_images",
    "test_targets": "test_labels",
}


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
    """The hex SHA-256 of all inputs, targets and names, and of the task unless it is classification."""
    from tickdsl.training.tasks import CLASSIFY  # which loads torch

    named = raw.class_names if raw.task == CLASSIFY.name else [raw.task, raw.class_names]
    sha256 = hashlib.sha256(json.dumps(named).encode())
    for field, array_name in _ARRAYS.items():
        held: Any = getattr(raw, field)
        arrays = held.read() if isinstance(held, NamedArrays) else {array_name: held}
        for name, array in arrays.items():
            sha256.update(f"{name} {array.dtype} {array.shape}".encode())
            sha256.update(np.ascontiguousarray(array).data)
    return sha256.hexdigest()


def _wrong_inputs(inputs: NDArray[Any], vocabulary: int) -> tuple[str, str] | None:
    """What is wrong with inputs, and what they should be; None if they are as they should be."""
    if inputs.dtype.kind in "OSU":
        hint = (
            "turn texts into tokens: return integers [N, T] with `vocabulary`, such as the bytes of the texts and 256"
        )
        return f"is {inputs.dtype} {list(inputs.shape)}", hint
    if not vocabulary:
        if inputs.ndim == 4 and inputs.dtype == np.uint8:
            return None
        if inputs.ndim in (2, 4) and inputs.dtype == np.float32:
            return None if np.isfinite(inputs).all() else ("has values that are not finite", "replace what is missing")
        hint = (
            "return images as uint8 [N, C, H, W], with values from 0 to 255, numbers as float32 [N, C, H, W] or "
            "[N, columns], or tokens with `vocabulary`"
        )
        return f"is {inputs.dtype} {list(inputs.shape)}", hint
    if inputs.ndim != 2 or not np.issubdtype(inputs.dtype, np.integer):
        return f"is {inputs.dtype} {list(inputs.shape)}", "return tokens as integers [N, T]"
    if inputs.size and not 0 <= inputs.min() <= inputs.max() < vocabulary:
        problem = f"ranges from {inputs.min()} to {inputs.max()}, with a vocabulary of {vocabulary}"
        return problem, f"return tokens from 0 to {vocabulary - 1}"
    return None


def _validated(name: str, raw: RawDataset) -> RawDataset:
    """The data set with its targets as the task needs them. Raises PluginError if an array is wrong; it says how."""
    if isinstance(raw.train_inputs, Mapping):
        return _validated_names(name, raw)
    from tickdsl.training.tasks import BadTargets, find_task

    arrays = {array_name: np.require(getattr(raw, array_name), requirements=("C", "W")) for array_name in _ARRAYS}
    names, task = tuple(str(name) for name in raw.class_names), find_task(raw.task)

    def error(array_name: str, problem: str, hint: str) -> PluginError:
        return PluginError(f"`{name}`: {array_name} {problem}", hint)

    for part in ("train", "test"):
        inputs, targets = arrays[f"{part}_inputs"], arrays[f"{part}_targets"]
        if problem_and_hint := _wrong_inputs(inputs, raw.vocabulary):
            raise error(f"{part}_inputs", *problem_and_hint)
        if not targets.ndim or not 0 < len(inputs) == len(targets):
            kind, what = "sample" if raw.vocabulary else "image", "label" if task.has_classes else "target"
            problem = f"has {plural(len(inputs), kind)} and {plural(len(np.atleast_1d(targets)), what)}"
            raise error(part, problem, f"return one {what} per input, and at least one input")
        try:
            arrays[f"{part}_targets"] = task.as_targets(targets, names)
        except BadTargets as found:
            raise error(f"{part}_targets", found.problem, found.hint) from found
        if task.spatial_targets and targets.shape[1:] != inputs.shape[2:]:
            raise error(
                f"{part}_targets", f"has {list(targets.shape[1:])} pixels, its images {list(inputs.shape[2:])}",
                "return masks of the size of their images",
            )  # fmt: skip
    if not raw.vocabulary:
        for array_name in ("train_inputs", "test_inputs"):  # columns are channels of one pixel
            array = arrays[array_name]
            arrays[array_name] = array[:, :, None, None] if array.ndim == 2 else array
    if arrays["train_inputs"].dtype != arrays["test_inputs"].dtype:
        raise error("train_inputs", f"is {arrays['train_inputs'].dtype}, test_inputs is not", "return both alike")
    if arrays["train_inputs"].shape[1:] != arrays["test_inputs"].shape[1:]:
        sizes = ["x".join(map(str, arrays[f"{part}_inputs"].shape[1:])) for part in ("train", "test")]
        raise error("train_inputs", f"has shape {sizes[0]}, test_inputs {sizes[1]}", "return both with the same shape")
    shapes = [list(arrays[f"{part}_targets"].shape[1:]) for part in ("train", "test")]
    if shapes[0] != shapes[1]:
        raise error("train_targets", f"has shape {shapes[0]} per input, test_targets {shapes[1]}", "return both alike")
    if task.has_classes and len(names) < 2:
        raise error("class_names", f"has {plural(len(names), 'name')}", "name at least two classes")
    return attrs.evolve(raw, **arrays, class_names=task.output_names(arrays["train_targets"], names))


def _validated_names(name: str, raw: RawDataset) -> RawDataset:
    """A data set whose inputs are dictionaries, as one of named arrays. Raises PluginError if an array is wrong."""
    parts: dict[str, NamedArrays] = {}
    try:
        for part in ("train", "test"):
            given: Any = getattr(raw, f"{part}_inputs")
            if not isinstance(given, Mapping) or {*given} != {*raw.train_inputs}:
                raise TickdslError("train_inputs and test_inputs have other names", "return dictionaries of equal keys")
            parts[part] = NamedArrays.of(
                {each: as_named_input(each, np.asarray(given[each])) for each in raw.train_inputs}
            )
        require_alike("", parts["train"], parts["test"])
    except TickdslError as error:
        raise PluginError(f"`{name}`: {error.message}", error.hint) from error
    # Targets and names are validated with one input that stands for all of them.
    stand_in: dict[str, Any] = {f"{part}_inputs": np.zeros((len(each), 1), np.float32) for part, each in parts.items()}
    checked = _validated(name, attrs.evolve(raw, **stand_in))
    named: dict[str, Any] = {f"{part}_inputs": inputs for part, inputs in parts.items()}
    return described(attrs.evolve(checked, **named))
