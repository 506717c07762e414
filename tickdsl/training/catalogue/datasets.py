"""The data sets that a plan can name, with their options, shapes and sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from tickdsl.plugins import Plugin, PluginDescription, Registry
from tickdsl.training.catalogue.options import Option, plugin_options


@attrs.frozen
class DatasetInfo:
    """A data set: its input shape (C, H, W), number of classes and set sizes; None if known only after reading it.

    task: that of its targets; None if known only after reading it.

    factory_options: the options that a plug-in's factory applies itself. is_drawn: its images are drawn by code, of any
    size and number of channels.
    """

    name: str
    summary: str
    shape: tuple[int, ...] | None = None
    classes: int | None = None
    train: int | None = None
    test: int | None = None
    options: Mapping[str, Option] = attrs.field(factory=dict)
    factory_options: tuple[str, ...] = ()
    task: str | None = "classify"
    is_drawn: bool = False


#: The largest images (pixels per side), and the largest synthetic data.
MAX_SIZE, MAX_CLASSES, MAX_IMAGES = 1024, 10_000, 10_000_000

_COMMON_OPTIONS = {
    "size": Option(int, 0, "resize the images to this many pixels per side", least=1, most=MAX_SIZE),
    "channels": Option(int, 0, "3: repeat greyscale images in three channels", among=(1, 3)),
    "samples": Option(int, 0, "use only this many training images, a fixed random choice", least=1),
}
_PATH_OPTION = {"path": Option(str, "", "where to find the data, instead of in the data folder")}

_TEST_OPTION = {
    "test": Option(float, 0.0, "test on this share of each class, if there is no test set, e.g. 20%", is_share=True)
}

_VOCABULARY_OPTION = {"vocabulary": Option(int, 0, "the inputs are tokens out of so many", least=2, most=10_000_000)}
_INPUTS_OPTION = {
    "inputs": Option(list, [], "the names of several inputs, which the network takes by keyword, e.g. [image, meta]")
}
_LOAD_OPTION = {
    "load": Option(
        str, "auto", "hold the data in memory, or read and decode them while they are used (default: by their size)",
        among=("auto", "resident", "stream"),
    )
}  # fmt: skip
#: Options that change where data come from or how they are held, and nothing that is computed.
PLACE_OPTIONS = ("path", "tokenizer", "load")
#: An option of every data set: what chooses looks at these samples, and the verdict at the test set.
_VALIDATION_OPTION = {
    "validation": Option(
        float, 0.0, "hold this share of the training data out for everything that chooses, e.g. 10%", is_share=True
    )
}


def _dataset(
    name: str,
    summary: str,
    shape: tuple[int, int, int] | None = None,
    classes: int | None = None,
    train: int | None = None,
    test: int | None = None,
) -> DatasetInfo:
    return DatasetInfo(name, summary, shape, classes, train, test, options=_COMMON_OPTIONS | _PATH_OPTION)


def _own_images(name: str, summary: str) -> DatasetInfo:
    """Encoded images of the user, which can be streamed."""
    return DatasetInfo(name, summary, options=_COMMON_OPTIONS | _PATH_OPTION | _TEST_OPTION | _LOAD_OPTION)


_SYNTHETIC_OPTIONS = _COMMON_OPTIONS | {
    "classes": Option(int, 10, "number of classes", least=2, most=MAX_CLASSES),
    "size": Option(int, 32, "pixels per side", least=1, most=MAX_SIZE),
    "channels": Option(int, 3, "number of channels: 1 or 3", among=(1, 3)),
    "train": Option(int, 2_000, "number of training images", least=1, most=MAX_IMAGES),
    "test": Option(int, 500, "number of test images", least=1, most=MAX_IMAGES),
}

_SHAPES_OPTIONS = _COMMON_OPTIONS | {
    "size": Option(int, 32, "pixels per side", least=16, most=MAX_SIZE),
    "channels": Option(int, 3, "number of channels: 1 or 3", among=(1, 3)),
    "train": Option(int, 1_000, "number of training images", least=1, most=MAX_IMAGES),
    "test": Option(int, 300, "number of test images", least=1, most=MAX_IMAGES),
}
_MASKS_OPTIONS = {
    "test": Option(float, 0.0, "test on this share of the images, if there is no test set, e.g. 20%", is_share=True),
    "classes": Option(int, 0, "number of classes (default: up to the highest value of a mask)", least=2, most=255),
}


def _shapes(name: str, summary: str, outputs: int, task: str) -> DatasetInfo:
    return DatasetInfo(
        name, summary, (3, 32, 32), outputs, 1_000, 300, options=_SHAPES_OPTIONS, task=task, is_drawn=True
    )


#: The longest sequences, and the most that are drawn.
MAX_LENGTH, MAX_SEQUENCES = 8192, 200_000

_TEXT_OPTIONS = {"samples": Option(int, 0, "use only this many training texts, a fixed random choice", least=1)}
_TOKENIZER_OPTION = {"tokenizer": Option(str, "", "a Hugging Face tokenizer.json; without it, tokens are bytes")}


def _drawn(train: int, test: int, noun: str) -> dict[str, Option]:
    return {
        "train": Option(int, train, f"number of training {noun}", least=1, most=MAX_SEQUENCES),
        "test": Option(int, test, f"number of test {noun}", least=1, most=MAX_SEQUENCES),
    }


def _length(default: int) -> dict[str, Option]:
    return {"length": Option(int, default, "tokens per text", least=1, most=MAX_LENGTH)}


_DATASETS = {
    info.name: attrs.evolve(info, options={**info.options, **_VALIDATION_OPTION})
    for info in (
        DatasetInfo(
            "digits", "8x8 scans of handwritten digits (UCI), installed with tickdsl",
            (1, 8, 8), 10, 1437, 360, options=_COMMON_OPTIONS,
        ),
        DatasetInfo(
            "mnist-small", "12,000 + 3,000 images of MNIST (LeCun 1998), installed with tickdsl",
            (1, 28, 28), 10, 12_000, 3_000, options=_COMMON_OPTIONS,
        ),
        _dataset("mnist", "handwritten digits (LeCun 1998)", (1, 28, 28), 10, 60_000, 10_000),
        _dataset("fashion-mnist", "images of clothing (Zalando)", (1, 28, 28), 10, 60_000, 10_000),
        _dataset("cifar10", "photographs in 10 classes (Krizhevsky 2009)", (3, 32, 32), 10, 50_000, 10_000),
        _dataset("cifar100", "photographs in 100 classes (Krizhevsky 2009)", (3, 32, 32), 100, 50_000, 10_000),
        _dataset("tiny-imagenet", "200 classes of ImageNet, 64x64 pixels", (3, 64, 64), 200, 100_000, 10_000),
        _own_images("folder", "your own images: a folder or an archive with train/CLASS/* and test/CLASS/*"),
        _own_images("webdataset", "WebDataset shards of images: train-000000.tar, …, test-000000.tar, …"),
        _own_images("parquet", "Parquet files of images and labels, as on the Hugging Face Hub"),
        _own_images("hf", "images of the Hugging Face Hub, read by its package `datasets`"),
        DatasetInfo(
            "arrays", "your own arrays: an .npz, a .safetensors, or a folder of .npy files",
            options=_COMMON_OPTIONS | _PATH_OPTION | _TEST_OPTION | _VOCABULARY_OPTION | _LOAD_OPTION
            | _INPUTS_OPTION, task=None,
        ),
        DatasetInfo(
            "synthetic", "one random pattern per class; for tests and benchmarks",
            (3, 32, 32), 10, 2_000, 500, options=_SYNTHETIC_OPTIONS, is_drawn=True,
        ),
        _shapes("shapes", "drawn circles, squares and triangles, with masks: 4 classes", 4, "segment"),
        _shapes("shapes-tags", "drawn shapes; the labels are the kinds that an image has", 3, "tag"),
        _shapes("shapes-places", "drawn shapes; the targets are row and column of the circle's centre", 2, "regress"),
        DatasetInfo(
            "masks", "your own images with masks: train/images, train/masks, test/images and test/masks",
            options=_COMMON_OPTIONS | _PATH_OPTION | _MASKS_OPTIONS | _LOAD_OPTION, task="segment",
        ),
        DatasetInfo(
            "corpus", "text drawn from a small grammar of English, as bytes; to predict the next one",
            (64, 256), 256, 2_000, 250, task="language",
            options=_TEXT_OPTIONS | _length(64) | _drawn(2_000, 250, "sequences"),
        ),
        DatasetInfo(
            "text", "your own text: a file, or a folder of files; to predict the next token", task="language",
            options=_TEXT_OPTIONS | _PATH_OPTION | _length(64) | _TOKENIZER_OPTION | {
                "test": Option(float, 0.0, "test on this share, at the end (default: 10%)", is_share=True),
            },
        ),
        DatasetInfo(
            "sentences", "sentences drawn from a small grammar, as words; to tell who acts",
            (12, 25), 4, 2_000, 500, options=_TEXT_OPTIONS | _drawn(2_000, 500, "sentences"),
        ),
        DatasetInfo(
            "table", "your own texts with labels: a .csv, .tsv or .jsonl file, or a folder with train.csv and test.csv",
            task=None,
            options=_TEXT_OPTIONS | _PATH_OPTION | _length(128) | _TOKENIZER_OPTION | _TEST_OPTION | {
                "text": Option(str, "text", "the column of the texts"),
                "label": Option(str, "label", "the column of the labels"),
                "task": Option(str, "classify", "what the labels are: `classify`, or `regress` for numbers"),
            },
        ),
    )
}  # fmt: skip


def _plugin_dataset(plugin: Plugin, description: PluginDescription) -> DatasetInfo:
    """tickdsl applies `size`, `channels`, `samples` and `validation` unless the factory has such parameters."""
    options = plugin_options(description, ("root",))
    return DatasetInfo(
        plugin.name,
        description.summary or plugin.origin,
        options=_COMMON_OPTIONS | _VALIDATION_OPTION | options,
        factory_options=tuple(options),
        task=None,
    )


DATASETS: Registry[DatasetInfo] = Registry("data set", _DATASETS, _plugin_dataset)


def known_size(name: str, field: str, options: Mapping[str, Any]) -> int | None:
    """A data set's number of classes, training or test images, or None if it is known only after reading the data.

    Training images are those that are left once some are held out for validation: about as many, since that is done
    class by class.

    field: `classes`, `train` or `test`.
    """
    info = DATASETS[name]
    size: int | None = getattr(info, field)
    if field == "train" and options.get("samples") and "samples" not in info.factory_options:
        size = options["samples"]
    elif field in options and field not in info.factory_options:  # a factory may give the option any meaning
        given = options[field]
        size = given if given and info.options[field].type is int else size  # 0, or a share: known after reading
    if field == "train" and size is not None and (share := validation_share(name, options)):
        classes = known_classes(name, options) or 1
        return size - min(max(round(share * size), classes), size - 1)
    return size


def known_classes(name: str, options: Mapping[str, Any]) -> int | None:
    """The number of classes that samples are labelled with; None for other targets, or if it needs the data."""
    return known_size(name, "classes", options) if DATASETS[name].task == "classify" else None


def noun(name: str) -> str:
    """What messages call a sample of the data set: `image`, or `sample` if its inputs are tokens."""
    return "image" if "size" in DATASETS[name].options else "sample"


def holds_out_validation(name: str, options: Mapping[str, Any]) -> bool:
    """Whether a data set with these options has a validation set."""
    return validation_share(name, options) > 0


def validation_share(name: str, options: Mapping[str, Any]) -> float:
    """The share of the training data that is held out for validation; 0 if there is none."""
    return 0.0 if "validation" in DATASETS[name].factory_options else float(options.get("validation", 0.0))
