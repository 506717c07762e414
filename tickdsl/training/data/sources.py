"""The files of a data set: found or downloaded by name, digested without decoding, read on demand."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from tickdsl.errors import TickdslError
from tickdsl.training.catalogue import DATASETS
from tickdsl.training.data.file_digests import files_digest
from tickdsl.training.data.readers import corpus, embedded, idx, plugin, sentences, shapes, synthetic
from tickdsl.training.data.readers.archives import open_tree
from tickdsl.training.data.readers.arrays import ArrayFiles
from tickdsl.training.data.readers.folder import ImageFolder, Tree
from tickdsl.training.data.readers.hub_images import HubImages
from tickdsl.training.data.readers.mask_folder import MaskFolder
from tickdsl.training.data.readers.parquet_files import ParquetFiles
from tickdsl.training.data.readers.raw_dataset import RawDataset
from tickdsl.training.data.readers.text_files import TextFiles
from tickdsl.training.data.readers.text_table import TextTable
from tickdsl.training.data.readers.web_shards import WebShards
from tickdsl.training.data.streaming.scan import scan
from tickdsl.training.torchvision_import import import_torchvision

#: The subfolder of the data folder that caches the arrays of decoded image folders.
DECODED_FOLDER = "decoded"

_FASHION_CLASSES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
_IDX = {"mnist": ("MNIST", tuple("0123456789")), "fashion-mnist": ("FashionMNIST", _FASHION_CLASSES)}
_CIFAR = {
    "cifar10": ("CIFAR10", "cifar-10-batches-py", [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]),
    "cifar100": ("CIFAR100", "cifar-100-python", ["train", "test"]),
}
#: Data sets of the user's own, and what their path leads to.
_NEED_A_PATH = {
    "folder": "a folder or an archive",
    "masks": "a folder or an archive",
    "arrays": "an .npz, a .safetensors, or a folder of .npy files",
    "webdataset": "a folder of shards",
    "parquet": "a folder of .parquet files",
    "hf": 'a name on the Hugging Face Hub; or write `data "hf:NAME"`',
}
#: Data sets of images that are neither a folder nor an archive of files.
_TREES: dict[str, Callable[[Path], Tree]] = {"webdataset": WebShards, "parquet": ParquetFiles, "hf": HubImages}
_TEXTS = ("corpus", "text", "sentences", "table")
_TINY_IMAGENET = "tiny-imagenet-200"


@attrs.frozen
class Source:
    """A data set's files: `read` reads them, and `digest` returns the hex SHA-256 of their bytes.

    rules: the rules that reading them takes (see RawDataset), which may have to read them. skipped: notes on files that
    are not part of the digest. reader_options: the options that `read` applies itself.
    """

    read: Callable[[], RawDataset]
    digest: Callable[[], str]
    rules: Callable[[], tuple[str, ...]] = tuple
    skipped: Callable[[], tuple[str, ...]] = tuple
    reader_options: tuple[str, ...] = ()


def find_source(name: str, root: Path, options: Mapping[str, Any], *, download: bool = True) -> Source:
    """The source of a data set in the catalogue, downloaded with torchvision if it is missing.

    options: all options, with defaults filled in. Raises TickdslError if files are missing and cannot be downloaded,
    or with `download=False` are not.
    """
    path = Path(options["path"]) if options.get("path") else None
    if name in embedded.NAMES:
        return Source(partial(embedded.read, name), partial(files_digest, [embedded.file(name)]))
    if name == "synthetic":
        shape = {key: options[key] for key in ("classes", "size", "channels", "train", "test")}
        return Source(partial(synthetic.read, **shape), synthetic_digest, reader_options=("size", "channels"))
    if name in shapes.NAMES:
        drawn = {key: options[key] for key in ("size", "channels", "train", "test")}
        return Source(partial(shapes.read, name, **drawn), shapes_digest, reader_options=("size", "channels"))
    if name in _TEXTS:
        return _text_source(name, path, options)
    if name not in DATASETS.builtin:
        return _plugin_source(name, root, options)
    if name in _IDX:
        return _idx_source(name, root, path, download)
    if name in _CIFAR:
        return _cifar_source(name, path or root, download)
    if name in _NEED_A_PATH and path is None:
        raise TickdslError(f"`data {name}` needs a path", f'add path="…" with {_NEED_A_PATH[name]}')
    if name == "arrays" and path is not None:
        files = ArrayFiles(path, options["test"], options["vocabulary"], options["load"], options["inputs"])
        return Source(files.read, files.digest, reader_options=("test",))
    if name == "masks" and path is not None:
        masks = MaskFolder(
            path, options["size"], options["test"], options["classes"], root / DECODED_FOLDER, options["load"], scan
        )
        return Source(masks.read, masks.digest, skipped=masks.skipped, reader_options=("test", "classes"))
    images = ImageFolder(
        path or _tiny_imagenet(root), options["size"], options.get("test", 0.0), root / DECODED_FOLDER,
        options.get("load", "auto"), _TREES.get(name, open_tree), scan,
    )  # fmt: skip
    return Source(images.read, images.digest, rules=images.rules, skipped=images.skipped, reader_options=("test",))


def _text_source(name: str, path: Path | None, options: Mapping[str, Any]) -> Source:
    sizes = {key: options[key] for key in ("train", "test", "length") if key in options}
    if name == "corpus":
        return Source(partial(corpus.read, **sizes), lambda: corpus.VERSION)
    if name == "sentences":
        return Source(partial(sentences.read, **sizes), lambda: sentences.VERSION)
    if path is None:
        what = "a text file, or a folder of them" if name == "text" else "a .csv, .tsv or .jsonl file"
        raise TickdslError(f"`data {name}` needs a path", f'add path="…" with {what}')
    if name == "text":
        text = TextFiles(path, options["length"], options["tokenizer"], options["test"])
        return Source(text.read, text.digest)
    columns = {key: options[key] for key in ("text", "label", "task", "length", "tokenizer")}
    table = TextTable(path, **columns, test_share=options["test"])
    return Source(table.read, table.digest)


def _plugin_source(name: str, root: Path, options: Mapping[str, Any]) -> Source:
    """A plug-in's source, digested by the data that it returns, so that editing only its code changes nothing."""
    factory_options = DATASETS[name].factory_options
    arguments = json.dumps({word.replace("-", "_"): options[word] for word in factory_options}, sort_keys=True)
    read = partial(plugin.read, name, root.absolute(), arguments)
    return Source(read, cache(lambda: plugin.digest(read())), reader_options=factory_options)


def synthetic_digest() -> str:
    """The version of the code that draws synthetic images; change it whenever the images change."""
    return "synthetic 1"


def shapes_digest() -> str:
    """The version of the code that draws shapes; change it whenever images or targets change."""
    return "shapes 1"


def _idx_source(name: str, root: Path, folder: Path | None, download: bool) -> Source:
    torchvision_name, class_names = _IDX[name]
    folders = (
        [folder, folder / "raw", folder / torchvision_name / "raw"]
        if folder
        else [root / torchvision_name / "raw", root / name]
    )
    paths = idx.find(folders)
    if paths is None and folder is None and download:
        _download(torchvision_name, root, f"the four *-ubyte.gz files of {name} into {root / torchvision_name / 'raw'}")
        paths = idx.find(folders)
    if paths is None:
        raise _missing(name, folders[0], ", ".join(f"{stem}.gz" for stem in idx.STEMS))
    return Source(partial(idx.read, paths, class_names), partial(files_digest, paths))


def _cifar_source(name: str, root: Path, download: bool) -> Source:
    torchvision_name, subfolder, file_names = _CIFAR[name]
    paths = [root / subfolder / file_name for file_name in file_names]
    if not all(path.is_file() for path in paths):
        if not download:
            raise _missing(name, root, f"the unpacked folder {subfolder}")
        _download(torchvision_name, root, f"the unpacked folder {subfolder} into {root}")
    return Source(partial(_read_cifar, torchvision_name, root), partial(files_digest, paths))


def _read_cifar(torchvision_name: str, root: Path) -> RawDataset:
    datasets = import_torchvision().datasets
    try:
        train, test = (getattr(datasets, torchvision_name)(str(root), train=is_train) for is_train in (True, False))
    except (RuntimeError, OSError) as error:
        raise TickdslError(
            f"{torchvision_name} in {root} is damaged: {error}", "delete its folder, then run again to download it"
        ) from error
    return RawDataset(
        train.data.transpose(0, 3, 1, 2), np.array(train.targets, dtype=np.int64),
        test.data.transpose(0, 3, 1, 2), np.array(test.targets, dtype=np.int64), tuple(train.classes),
    )  # fmt: skip


def _download(torchvision_name: str, root: Path, instruction: str) -> None:
    """Download a data set into `root` with torchvision. Raises TickdslError if that fails."""
    datasets = import_torchvision().datasets
    try:
        getattr(datasets, torchvision_name)(str(root), train=True, download=True)
    except (RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(":")
        raise TickdslError(
            f"{torchvision_name} is not in {root} and cannot be downloaded: {reason}", f"put {instruction}"
        ) from error


def _tiny_imagenet(root: Path) -> Path:
    for path in (root / _TINY_IMAGENET, root / f"{_TINY_IMAGENET}.zip"):
        if path.exists():
            return path
    raise _missing("tiny-imagenet", root, f"{_TINY_IMAGENET}.zip, or its folder {_TINY_IMAGENET}")


def _missing(name: str, folder_path: Path, file_names: str) -> TickdslError:
    return TickdslError(f"{name} is missing", f"put {file_names} into {folder_path}")
