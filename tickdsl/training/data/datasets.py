"""Data sets by name, as tensors, with a fingerprint of the files that they were read from."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tickdsl.errors import TickdslError, UnreadableDataError
from tickdsl.plurals import plural
from tickdsl.training.catalogue.input_shapes import IMAGE, NUMBERS, InputShape, NamedShapes
from tickdsl.training.data import held_out
from tickdsl.training.data.fingerprints import fingerprint as fingerprint
from tickdsl.training.data.fingerprints import fingerprint_of, readable, with_defaults
from tickdsl.training.data.fingerprints import skipped as skipped
from tickdsl.training.data.preprocess import Preprocess, make_preprocess
from tickdsl.training.data.readers.encoded_images import EncodedImages
from tickdsl.training.data.readers.mapped_arrays import MappedInputs
from tickdsl.training.data.readers.named_arrays import NamedArrays
from tickdsl.training.data.readers.raw_dataset import ImageArray, InputArray, RawDataset, TargetArray
from tickdsl.training.data.sources import find_source
from tickdsl.training.data.streaming.images import StreamedImages, as_tensors, take
from tickdsl.training.data.streaming.statistics import digests, value_counts
from tickdsl.training.named_tensors import NamedTensors
from tickdsl.training.rng import generator
from tickdsl.training.tasks import CLASSIFY, BadTargets, Task, find_task
from tickdsl.training.tasks.probe import probe


@attrs.frozen(eq=False)
class Dataset:
    """Inputs and targets [N, …] of a training set, a test set and, if some are held out, a validation set.

    Inputs are images, uint8 [N, C, H, W], numbers, float32 [N, C, H, W] (columns are channels of one pixel), or tokens,
    integers [N, T] in 0..vocabulary-1; or several of them by name, `NamedTensors`. task: what is learnt; for
    `classify`, the targets are labels int64 [N]. class_names: the names of the classes, or of what else the outputs
    are. mean, std: float32 [C], of the training images with pixel values scaled to [0, 1], or of numbers as they are;
    empty for tokens; of several inputs, those of one after the other. vocabulary: the number of different tokens; 0 for
    images. named: the shapes of several inputs. fingerprint: the hex SHA-256 of the source and of the options that are
    not defaults; equal fingerprints mean equal tensors. notes: what was skipped or converted, for the user.
    """

    name: str
    train_inputs: Tensor
    train_targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor
    class_names: tuple[str, ...]
    mean: Tensor
    std: Tensor
    fingerprint: str
    notes: tuple[str, ...] = ()
    task: Task = CLASSIFY
    vocabulary: int = 0
    named: NamedShapes | None = None
    validation_inputs: Tensor | None = None
    validation_targets: Tensor | None = None

    @property
    def test_set(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets that a verdict looks at."""
        return self.test_inputs, self.test_targets

    @property
    def validation_set(self) -> tuple[Tensor, Tensor] | None:
        """Inputs and targets that everything that chooses looks at; None if none are held out."""
        if self.validation_inputs is None or self.validation_targets is None:
            return None
        return self.validation_inputs, self.validation_targets

    @property
    def classes(self) -> int:
        """The number of outputs of a network: of classes, or of numbers in a target."""
        return len(self.class_names)

    def classes_without(self, part: str) -> tuple[str, ...]:
        """The names of the classes that have no images. part: `train` or `test`."""
        if not self.task.has_classes:
            return ()
        labels = self.train_targets if part == "train" else self.test_targets
        counts = torch.bincount(labels, minlength=self.classes)
        return tuple(name for name, count in zip(self.class_names, counts.tolist(), strict=True) if not count)

    @property
    def shape(self) -> InputShape:
        """The shape of an input: (C, H, W) for images, (T, V) for T tokens of V; or of several by name."""
        if self.named is not None:
            return self.named
        size = tuple(map(int, self.train_inputs.shape[1:]))
        return (*size, self.vocabulary) if self.vocabulary else size

    def preprocess(self, device: torch.device | str = "cpu") -> Preprocess:
        """What converts inputs as they are stored here, on the device, to what networks take."""
        return make_preprocess(self.shape, self.mean, self.std, device, floats=self.has_floats)

    @property
    def has_floats(self) -> bool:
        """Whether inputs are numbers instead of images of 8 bits; False for several inputs, which say so themselves."""
        return self.named is None and self.train_inputs.dtype.is_floating_point

    def for_task(self, task: Task) -> Dataset:
        """The data set as it is used for another task, whose targets are the inputs themselves.

        Raises TickdslError if the task needs targets of its own.
        """
        if task.name == self.task.name:
            return self
        if not task.learns_from_inputs:
            raise TickdslError(
                f"{self.name} has no targets for the task `{task.name}`: its task is `{self.task.name}`",
                f"use data with the task `{task.name}`",
            )
        if self.named is not None:
            raise TickdslError(
                f"the task `{task.name}` learns images, and {self.name} has several inputs", "use data of images"
            )
        if self.has_floats:
            raise TickdslError(
                f"the task `{task.name}` learns images of 8 bits, and {self.name} has floats", "store images as uint8"
            )
        mean, std = self.mean, self.std
        if task.pixel_statistics is not None:
            mean, std = (torch.full_like(self.mean, value) for value in task.pixel_statistics)
        return attrs.evolve(
            self,
            train_targets=self.train_inputs,
            test_targets=self.test_inputs,
            validation_targets=self.validation_inputs,
            task=task,
            mean=mean,
            std=std,
        )


def load(
    name: str, *, root: Path | str = "data", options: Mapping[str, Any] | None = None, download: bool = True
) -> Dataset:
    """Read a data set. root: the folder that data sets are read from, downloaded to and cached in.

    download: whether to download files that are missing. Raises TickdslError if the name or an option is unknown, if
    files are damaged or missing (the hint then says which files to put where), or if they change while they are read.
    """
    options_with_defaults = with_defaults(name, options)
    with readable(name):
        source = find_source(name, Path(root), options_with_defaults, download=download)
        digest = source.digest()
        raw = source.read()
        rules, notes = source.rules(), (*source.skipped(), *raw.notes)
        if source.digest() != digest:
            raise TickdslError(
                f"the files of {name} changed while they were read", "run again when nothing writes to them"
            )
    task = find_task(raw.task)
    if task.has_classes and len(raw.class_names) < 2:
        message = f"{name} has one class: there is nothing to tell apart"
        raise UnreadableDataError(message, "use data with two classes or more")
    probe(task, torch.from_numpy(raw.train_targets[:2]), len(raw.class_names))
    for part, targets in (("training", raw.train_targets), ("test", raw.test_targets)):
        try:
            task.as_targets(targets, raw.class_names)
        except BadTargets as found:
            message = f"{name}: the targets of the {part} images are wrong: the array {found.problem}"
            raise UnreadableDataError(message, "check the files of the data set") from found
    applied = {**options_with_defaults, **dict.fromkeys(source.reader_options, 0)}
    raw, validation = _held_out(_sampled(raw, applied), applied["validation"], has_classes=task.has_classes)
    raw = _resized_sets(raw, applied, task)
    mean, std = (torch.empty(0), torch.empty(0)) if raw.vocabulary else _channel_statistics(raw.train_inputs)
    dataset = Dataset(
        name=name,
        train_inputs=_as_inputs(raw.train_inputs),
        train_targets=torch.from_numpy(raw.train_targets),
        test_inputs=_as_inputs(raw.test_inputs),
        test_targets=torch.from_numpy(raw.test_targets),
        class_names=raw.class_names,
        mean=mean,
        std=std,
        fingerprint=fingerprint_of(name, digest, rules, options_with_defaults),
        notes=notes,
        task=task,
        vocabulary=raw.vocabulary,
        named=raw.train_inputs.shapes if isinstance(raw.train_inputs, NamedArrays) else None,
    )
    if validation is None:
        return dataset
    validation = _resized_sets(attrs.evolve(validation, test_inputs=raw.test_inputs), applied, task)
    return attrs.evolve(
        dataset,
        validation_inputs=_as_inputs(validation.train_inputs),
        validation_targets=torch.from_numpy(validation.train_targets),
    )


def _as_inputs(inputs: InputArray | EncodedImages | MappedInputs | NamedArrays) -> Tensor:
    """Inputs as a tensor, or if they are streamed or several, as what looks like one as far as data sets need it."""
    if isinstance(inputs, NamedArrays):
        named: Any = StreamedImages(inputs) if inputs.is_mapped else NamedTensors(as_tensors(inputs.read()))
        return named  # type: ignore[no-any-return]
    if isinstance(inputs, EncodedImages | MappedInputs):
        dtype = torch.from_numpy(np.empty(0, inputs.dtype)).dtype
        streamed: Any = StreamedImages(inputs, dtype=dtype)
        return streamed  # type: ignore[no-any-return]
    return torch.from_numpy(np.ascontiguousarray(inputs))


def take_part(dataset: Dataset, *, by: str, parts: int, index: int, seed: int = 0) -> Dataset:
    """Part `index` of `parts` of a data set.

    by `classes`: a contiguous block of classes of the training and the test set, with labels counted from 0 (COLT
    2022); blocks differ in size by at most one class. The validation set is divided like the test set. by `samples`: a
    random share of the training set, disjoint from the other parts and drawn from `seed`, and the whole test and
    validation set. Mean and deviation stay those of the whole data set.

    Raises TickdslError if there are fewer classes or images than parts.
    """
    if not 0 <= index < parts:
        raise ValueError(f"there is no part {index} of {parts}")
    key = f"{dataset.fingerprint}/{by}/{parts}/{index}" + (f"/{seed}" if by == "samples" else "")
    fingerprint = hashlib.sha256(key.encode()).hexdigest()
    if by == "classes":
        if not dataset.task.has_classes:
            raise TickdslError(
                f"`split classes` needs classes, which `{dataset.name}` has not: its task is {dataset.task.name}",
                "use `split samples`",
            )
        if parts > dataset.classes:
            raise TickdslError(
                f"cannot split {plural(dataset.classes, 'class')} into {parts} parts",
                f"use `split classes {dataset.classes}`",
            )
        first, last = (dataset.classes * i // parts for i in (index, index + 1))
        train = (dataset.train_targets >= first) & (dataset.train_targets < last)
        test = (dataset.test_targets >= first) & (dataset.test_targets < last)
        return attrs.evolve(
            dataset,
            train_inputs=take(dataset.train_inputs, train),
            train_targets=dataset.train_targets[train] - first,
            test_inputs=take(dataset.test_inputs, test),
            test_targets=dataset.test_targets[test] - first,
            **_validation_of_classes(dataset, first, last),
            class_names=dataset.class_names[first:last],
            fingerprint=fingerprint,
        )
    if by != "samples":
        raise ValueError(f"cannot split by {by}: use classes or samples")
    count = len(dataset.train_targets)
    if parts > count:
        raise TickdslError(f"cannot split {plural(count, 'image')} into {parts} parts", "use fewer parts")
    order = torch.randperm(count, generator=generator(seed, "split", parts))
    indices = order[count * index // parts : count * (index + 1) // parts].sort().values
    return attrs.evolve(
        dataset,
        train_inputs=take(dataset.train_inputs, indices),
        train_targets=dataset.train_targets[indices],
        fingerprint=fingerprint,
    )


def _validation_of_classes(dataset: Dataset, first: int, last: int) -> dict[str, Any]:
    """The validation set of a contiguous block of classes."""
    if dataset.validation_inputs is None or dataset.validation_targets is None:
        return {}
    chosen = (dataset.validation_targets >= first) & (dataset.validation_targets < last)
    return {
        "validation_inputs": take(dataset.validation_inputs, chosen),
        "validation_targets": dataset.validation_targets[chosen] - first,
    }


def _sampled(raw: RawDataset, options: Mapping[str, Any]) -> RawDataset:
    """Apply the option `samples`; 0 means all."""
    labels = raw.train_targets
    if options["samples"]:
        if options["samples"] > len(labels):
            kind = "training sample" if raw.vocabulary else "training image"
            raise TickdslError(
                f"samples={options['samples']}: the data set has only {plural(len(labels), kind)}",
                "use fewer samples",
            )
        order = torch.randperm(len(labels), generator=generator(0, "samples"))[: options["samples"]]
        return attrs.evolve(raw, train_inputs=raw.train_inputs[order.numpy()], train_targets=labels[order.numpy()])
    return raw


def _resized_sets(raw: RawDataset, options: Mapping[str, Any], task: Task) -> RawDataset:
    """Apply the options `size` and `channels` to training and test inputs, and to masks, which are as large."""
    train, test = (_resized(inputs, options) for inputs in (raw.train_inputs, raw.test_inputs))
    raw = attrs.evolve(raw, train_inputs=train, test_inputs=test)
    if not task.spatial_targets:
        return raw
    masks, tested = _resize_masks(raw.train_targets, train), _resize_masks(raw.test_targets, test)
    return attrs.evolve(raw, train_targets=masks, test_targets=tested)


def _resize_masks(masks: TargetArray, images: ImageArray) -> TargetArray:
    """Masks [N, H, W] with the height and width of their images, each pixel the nearest one's value."""
    if masks.shape[1:] == images.shape[2:]:
        return masks
    resized = F.interpolate(torch.from_numpy(masks).unsqueeze(1), size=images.shape[2:], mode="nearest-exact")
    return resized.squeeze(1).numpy()


def _held_out(raw: RawDataset, share: float, *, has_classes: bool) -> tuple[RawDataset, RawDataset | None]:
    """The data without those held out for validation, and these as the training part of another; None for a share of 0.

    Raises TickdslError if a class would be left without one.
    """
    if not share:
        return raw, None
    labels = raw.train_targets.tolist() if has_classes else None
    inputs: Any = raw.train_inputs
    found = digests(inputs, "validation") if isinstance(inputs, EncodedImages) else None
    chosen = held_out.validation_mask(raw.train_inputs, labels, raw.class_names, share, found)
    kept, validation = (
        attrs.evolve(raw, train_inputs=raw.train_inputs[part], train_targets=raw.train_targets[part])
        for part in (~chosen, chosen)
    )
    return kept, validation


def _resized(images: ImageArray, options: Mapping[str, Any]) -> ImageArray:
    """Apply the options `size` and `channels`; 0 means unchanged."""
    size, channels = options.get("size", 0), options.get("channels", 0)
    encoded: Any = images
    if isinstance(encoded, NamedArrays):
        return _resized_input(encoded, options) if size or channels else images
    if isinstance(encoded, EncodedImages) and channels and images.shape[1] == 1:
        repeated: Any = encoded.with_channels(channels)
        return repeated  # type: ignore[no-any-return]
    if isinstance(encoded, MappedInputs) and (size or channels):
        if (size in (0, *images.shape[2:3])) and channels in (0, images.shape[1]):
            return images
        raise TickdslError("`size` and `channels` cannot change arrays that are streamed", "use load=resident")
    if (size or channels) and images.shape[2:] == (1, 1) and images.dtype != np.uint8:
        raise TickdslError("`size` and `channels` are for images, and the inputs are columns of numbers", "remove them")
    if size and images.shape[2:] != (size, size):
        floats = images.dtype != np.uint8
        resized = [
            scaled if floats else scaled.round_().byte()
            for batch in torch.split(torch.from_numpy(np.ascontiguousarray(images)), 1000)
            for scaled in [F.interpolate(batch.float(), size=(size, size), mode="bilinear", antialias=True)]
        ]
        images = torch.cat(resized).numpy()
    if channels and channels != images.shape[1]:
        if images.shape[1] != 1:
            raise TickdslError(
                f"channels={channels}: the images have {images.shape[1]} channels", "leave out `channels`"
            )
        images = images.repeat(channels, axis=1)
    return images


def _resized_input(inputs: NamedArrays, options: Mapping[str, Any]) -> ImageArray:
    """Apply the options `size` and `channels` to the input that is an image."""
    name = inputs.shapes.augmented
    if name is None:
        raise TickdslError(
            "`size` and `channels` are for images, and none of the inputs is the image",
            "remove them, or call the input that they are for `image`",
        )
    images: Any = inputs.arrays[name]
    changed: Any = inputs.with_image(name, _resized(images, options))
    return changed  # type: ignore[no-any-return]


def _parts(inputs: NDArray[Any] | MappedInputs) -> Iterator[NDArray[Any]]:
    """All inputs in order, in parts that fit into memory, equal ones whether they are streamed or not."""
    if isinstance(inputs, MappedInputs):
        return inputs.parts()
    return (inputs[first : first + 1000] for first in range(0, len(inputs), 1000))


def _float_statistics(numbers: NDArray[Any], channel_dim: int = 1) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [C], in two passes of float64 over parts that fit into memory.

    channel_dim: the dimension of the channels; 0, that of the samples, if there are none.
    """
    dims = len(numbers.shape)
    channel = channel_dim % dims
    others = tuple(dim for dim in range(dims) if dim != channel or not channel)
    shape = [1 if dim in others else -1 for dim in range(dims)]
    count = math.prod(numbers.shape) // (numbers.shape[channel] if channel else 1)
    mean = np.sum([part.sum(others, dtype=np.float64) for part in _parts(numbers)], 0) / count
    centred = ((part.astype(np.float64) - mean.reshape(shape)) ** 2 for part in _parts(numbers))
    deviation = np.atleast_1d(np.sqrt(np.sum([part.sum(others) for part in centred], 0) / count))
    deviation[deviation == 0] = 1.0
    return torch.tensor(np.atleast_1d(mean), dtype=torch.float32), torch.tensor(deviation, dtype=torch.float32)


def _channel_statistics(images: ImageArray) -> tuple[Tensor, Tensor]:
    """The exact mean and standard deviation [C] of pixel values scaled to [0, 1], or of floats as they are.

    The deviation of a constant channel counts as 1. Of several inputs, those of one after the other.
    """
    encoded: Any = images
    if isinstance(encoded, NamedArrays):
        return _statistics_by_name(encoded)
    if np.issubdtype(images.dtype, np.floating):
        return _float_statistics(images)
    values = np.arange(256) / 255
    means, deviations = [], []
    if isinstance(encoded, EncodedImages):
        counts = value_counts(encoded)
    else:
        counts = np.sum(
            [[np.bincount(part[:, c].ravel(), minlength=256) for c in range(part.shape[1])] for part in _parts(images)],
            0,
        )
    for of_channel in counts:
        frequencies = of_channel / of_channel.sum()
        mean = float(frequencies @ values)
        deviation = float(np.sqrt(frequencies @ (values - mean) ** 2))
        means.append(mean)
        deviations.append(deviation or 1.0)
    return torch.tensor(means, dtype=torch.float32), torch.tensor(deviations, dtype=torch.float32)


def _statistics_by_name(inputs: NamedArrays) -> tuple[Tensor, Tensor]:
    """The mean and standard deviation of the channels of all images and numbers, in the order of the inputs."""
    parts = [(torch.empty(0), torch.empty(0))]
    for known in inputs.shapes.inputs:
        values: Any = inputs.arrays[known.name]
        if known.kind == IMAGE:
            parts.append(_channel_statistics(values))
        elif known.kind == NUMBERS:
            parts.append(_float_statistics(values, 1 if known.channel_dim == 0 else -1))
    mean, std = (torch.cat(each) for each in zip(*parts, strict=True))
    return mean, std
