"""Arrays in files: an `.npz`, a `.safetensors`, or a folder of `.npy` files.

They are called `x_train`, `y_train`, `x_test` and `y_test`, as in the archives of Keras, or `train_inputs`,
`train_targets`, `test_inputs` and `test_targets`; without a test set `x` and `y`, or `inputs` and `targets`.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from tickdsl.errors import TickdslError
from tickdsl.plurals import plural
from tickdsl.training.data import held_out
from tickdsl.training.data.file_digests import files_digest
from tickdsl.training.data.readers.folder import is_too_large
from tickdsl.training.data.readers.image_arrays import as_channels_first
from tickdsl.training.data.readers.mapped_arrays import MappedInputs, compressed_error, map_arrays
from tickdsl.training.data.readers.named_arrays import (
    NamedArrays,
    as_named_input,
    described,
    find_named,
    require_alike,
)
from tickdsl.training.data.readers.raw_dataset import InputArray, RawDataset, TargetArray

#: The names of an array, in the order in which they are looked for.
_NAMES = {
    "train_inputs": ("train_inputs", "x_train", "train_images", "inputs", "x", "images", "data"),
    "train_targets": ("train_targets", "y_train", "train_labels", "targets", "y", "labels", "target"),
    "test_inputs": ("test_inputs", "x_test", "test_images"),
    "test_targets": ("test_targets", "y_test", "test_labels"),
}
_LAYOUT = "it must hold x_train, y_train, x_test and y_test; or x and y, with test=20%"


@attrs.frozen
class ArrayFiles:
    """Arrays in files. test_share: the share of each class to test on (0: there is a test set).

    vocabulary: the number of different tokens, if the inputs are tokens; 0 for images and columns of numbers. load:
    `stream` leaves inputs in their files (see `MappedInputs`), `resident` reads them, `auto` goes by their size.
    inputs: the names of several inputs, which a network takes by keyword; empty for one input.
    """

    path: Path
    test_share: float
    vocabulary: int = 0
    load: str = "resident"
    inputs: tuple[str, ...] = attrs.field(default=(), converter=tuple)

    def digest(self) -> str:
        """The hex SHA-256 of the files' bytes."""
        return files_digest(self._files())

    def read(self) -> RawDataset:
        """The data set. Raises TickdslError if the files or the arrays in them are not as they must be."""
        arrays = self._arrays()
        found: dict[str, Any] = {part: self._array(arrays, names) for part, names in _NAMES.items()}
        if self.inputs:
            found |= {f"{part}_inputs": find_named(self.path, arrays, self.inputs, part) for part in ("train", "test")}
        for part, purpose in (("train_inputs", "inputs to train on"), ("train_targets", "targets to train on")):
            if found[part] is None:
                held = ", ".join(sorted(arrays)[:8]) or "nothing"
                raise TickdslError(f"{self.path} has no {purpose}: it holds {held}", _LAYOUT)
        class_names = self._class_names(arrays)
        has_test = found["test_inputs"] is not None and found["test_targets"] is not None
        if self.test_share and has_test:
            raise TickdslError(f"{self.path} has a test set already", "leave out `test=`, or remove x_test and y_test")
        if not self.test_share and not has_test:
            raise TickdslError(f"{self.path} has no test set", f"add test=20% to `data`; or {_LAYOUT}")
        as_inputs = self._as_inputs(found["train_inputs"], found["test_inputs"])
        inputs, targets = as_inputs(found["train_inputs"]), np.asarray(found["train_targets"])
        self._require_equal_lengths("training", inputs, targets)
        if has_test:
            test_inputs, test_targets = as_inputs(found["test_inputs"]), np.asarray(found["test_targets"])
            self._require_equal_lengths("test", test_inputs, test_targets)
            if self.inputs:
                require_alike(self.path, inputs, test_inputs)
            elif test_inputs.shape[1:] != inputs.shape[1:] or test_inputs.dtype != inputs.dtype:
                ours, theirs = (f"{each.dtype} {list(each.shape[1:])}" for each in (inputs, test_inputs))
                raise TickdslError(f"{self.path}: training inputs are {ours}, test inputs {theirs}", "store both alike")
        else:
            chosen = self._test_mask(inputs, targets)
            test_inputs, test_targets = inputs[chosen], targets[chosen]
            inputs, targets = inputs[~chosen], targets[~chosen]
        raw = self._assembled(inputs, targets, test_inputs, test_targets, class_names)
        return described(raw) if self.inputs else raw

    def _as_inputs(self, *parts: Any) -> Callable[[Any], Any]:
        """What makes inputs of an array, or of arrays by name: their values, or if streamed, `MappedInputs`."""
        arrays = [array for part in parts if part is not None for array in (part.values() if self.inputs else [part])]
        streams = self._streams(arrays)

        def as_input(convert: Callable[[Any], InputArray], array: NDArray[Any]) -> InputArray | MappedInputs:
            return MappedInputs.of(array, convert) if streams else convert(array)

        def named(part: Mapping[str, NDArray[Any]]) -> NamedArrays:
            try:
                return NamedArrays.of({name: as_input(partial(as_named_input, name), part[name]) for name in part})
            except TickdslError as error:
                raise TickdslError(f"{self.path}: {error.message}", error.hint) from error

        return named if self.inputs else partial(as_input, self._inputs)

    def _streams(self, arrays: list[NDArray[Any]]) -> bool:
        """Whether arrays stay in their files. Raises TickdslError if they are to, and cannot."""
        if self.load == "resident" or (self.load == "auto" and not is_too_large(sum(each.nbytes for each in arrays))):
            return False
        if all(map(_is_mapped, arrays)):
            return True
        if self.load == "auto":
            return False
        raise compressed_error(self.path)

    def _files(self) -> list[Path]:
        if self.path.is_dir():
            files = sorted(self.path.glob("*.npy"))
            if not files:
                raise TickdslError(f"{self.path} holds no .npy files", _LAYOUT)
            return files
        if not self.path.is_file():
            raise TickdslError(
                f"{self.path} does not exist", "set path= to an .npz, a .safetensors, or a folder of .npy"
            )
        return [self.path]

    def _arrays(self) -> Mapping[str, Any]:
        """The arrays by name; those in .npy files are mapped into memory."""
        damaged = f"{self.path} is damaged, or not what its name says"
        try:
            if self.path.is_dir():
                return {file.stem: np.load(file, mmap_mode="c", allow_pickle=False) for file in self._files()}
            file = self._files()[0]
            is_mapped = self.load == "stream" or (self.load == "auto" and is_too_large(file.stat().st_size))
            if is_mapped and (mapped := map_arrays(file)) is not None:
                return mapped
            if self.path.suffix == ".safetensors":
                from safetensors import SafetensorError
                from safetensors.numpy import load_file

                try:
                    return load_file(self._files()[0])
                except SafetensorError as error:
                    raise TickdslError(f"{damaged}: {error}", "write it again") from error
            with np.load(self._files()[0], allow_pickle=False) as archive:
                if isinstance(archive, np.ndarray):
                    raise TickdslError(f"{self.path} is a single array", f"put it into a folder with others: {_LAYOUT}")
                return {name: archive[name] for name in archive.files}
        except (ValueError, EOFError, zipfile.BadZipFile, KeyError, TypeError, struct.error) as error:
            pickled = "pickle" in str(error)
            reason = "it holds objects, which would have to run code to be read" if pickled else str(error)
            raise TickdslError(
                f"{damaged}: {reason}", "store arrays of numbers" if pickled else "write it again"
            ) from error

    def _array(self, arrays: Mapping[str, Any], names: tuple[str, ...]) -> NDArray[Any] | None:
        return next((arrays[name] for name in names if name in arrays), None)

    def _class_names(self, arrays: Mapping[str, Any]) -> tuple[str, ...]:
        names = arrays.get("class_names")
        return () if names is None else tuple(map(str, np.asarray(names).tolist()))

    def _require_equal_lengths(self, part: str, inputs: InputArray, targets: TargetArray) -> None:
        if not targets.ndim or len(inputs) != len(targets) or not len(inputs):
            count = plural(len(targets), "target") if targets.ndim else "a single target"
            raise TickdslError(
                f"{self.path}: {part}: {plural(len(inputs), 'input')} and {count}", "store one per input"
            )

    def _inputs(self, array: NDArray[Any] | None) -> InputArray:
        """Inputs as a data set holds them: images [N, C, H, W], uint8 or float32; columns as channels of one pixel."""
        assert array is not None
        if self.vocabulary:
            return self._tokens(array)
        if array.dtype == np.bool_:
            array = array.astype(np.uint8) * np.uint8(255)
        if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.number):
            raise TickdslError(f"{self.path}: the inputs are {array.dtype}", "store numbers: uint8 or float32")
        if np.issubdtype(array.dtype, np.complexfloating) or array.ndim not in (2, 3, 4):
            shape = f"{array.dtype} {list(array.shape)}"
            raise TickdslError(
                f"{self.path}: the inputs are {shape}", "store [N, columns], [N, H, W], [N, C, H, W] or [N, H, W, C]"
            )
        if array.dtype != np.uint8:
            array = array.astype(np.float32, copy=False)
            if not np.isfinite(array).all():
                where = np.argwhere(~np.isfinite(array))[0].tolist()
                raise TickdslError(f"{self.path}: the input at {where} is not finite", "replace what is missing")
        if array.ndim == 2:
            return np.ascontiguousarray(array[:, :, None, None])
        return as_channels_first(array)

    def _tokens(self, array: NDArray[Any]) -> InputArray:
        if array.ndim != 2 or not np.issubdtype(array.dtype, np.integer):
            raise TickdslError(
                f"{self.path}: tokens are {array.dtype} {list(array.shape)}", "store them as integers [N, T]"
            )
        if array.size and not 0 <= array.min() <= array.max() < self.vocabulary:
            raise TickdslError(
                f"{self.path}: tokens range from {array.min()} to {array.max()}, with vocabulary={self.vocabulary}",
                f"use vocabulary={int(array.max()) + 1}" if array.min() >= 0 else "count tokens from 0",
            )
        return np.ascontiguousarray(array)

    def _test_mask(self, inputs: InputArray, targets: TargetArray) -> NDArray[np.bool_]:
        """Which samples are tested on: a share of each class, or of all, by their content."""
        classes = [str(value) for value in targets.tolist()] if _are_labels(targets) else [""] * len(targets)
        try:
            chosen = held_out.choose(classes, held_out.sample_digests(inputs, "testing"), self.test_share)
        except TickdslError as error:
            raise TickdslError(
                f"{self.path}: {error.message}", "use more samples of it, or remove the class"
            ) from error
        return np.array(chosen, dtype=np.bool_)

    def _assembled(
        self,
        inputs: InputArray,
        targets: TargetArray,
        test_inputs: InputArray,
        test_targets: TargetArray,
        class_names: tuple[str, ...],
    ) -> RawDataset:
        if not _are_labels(targets):
            return self._regression(RawDataset(
                inputs, targets, test_inputs, test_targets, class_names, task="regress", vocabulary=self.vocabulary
            ))  # fmt: skip
        targets, test_targets = (each.reshape(len(each)) for each in (targets, test_targets))
        if class_names and np.issubdtype(targets.dtype, np.integer):
            labels, tested = targets.astype(np.int64), test_targets.astype(np.int64)
        else:
            values = np.unique(targets)
            unknown = sorted({*test_targets.tolist()} - {*values.tolist()})
            if unknown:
                raise TickdslError(
                    f"{self.path}: class {unknown[0]} has test samples but no training samples",
                    "train on it, or remove it",
                )
            labels, tested = (np.searchsorted(values, each).astype(np.int64) for each in (targets, test_targets))
            class_names = tuple(str(value) for value in values.tolist())
        return RawDataset(inputs, labels, test_inputs, tested, class_names, vocabulary=self.vocabulary)

    def _regression(self, raw: RawDataset) -> RawDataset:
        """The data set with targets as its task takes them."""
        from tickdsl.training.tasks import BadTargets, find_task  # which loads torch

        task = find_task(raw.task)
        converted: dict[str, Any] = {}
        for part in ("train_targets", "test_targets"):
            try:
                converted[part] = task.as_targets(getattr(raw, part), raw.class_names)
            except BadTargets as found:
                hint = f"{found.hint}; labels are whole numbers or words, one per input"
                raise TickdslError(f"{self.path}: {part} {found.problem}", hint) from found
        names = task.output_names(converted["train_targets"], raw.class_names)
        return attrs.evolve(raw, **converted, class_names=names)


def _is_mapped(array: NDArray[Any]) -> bool:
    """Whether an array is in a file that is mapped into memory."""
    return isinstance(array, np.memmap) or isinstance(array.base, np.memmap)


def _are_labels(targets: TargetArray) -> bool:
    """Whether targets are one class per sample: whole numbers or words, in one column."""
    one_column = targets.ndim == 1 or (targets.ndim == 2 and targets.shape[1] == 1)
    return one_column and (np.issubdtype(targets.dtype, np.integer) or targets.dtype.kind in "USb")
