"""Where a data set's bytes lie: found by name, fingerprinted without decoding, read when asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from tickdsl.errors import TickdslError
from tickdsl.training.catalogue import DATASETS
from tickdsl.training.data.readers import custom, digits, folder, idx, synthetic
from tickdsl.training.data.readers.members import files
from tickdsl.training.data.readers.raw import Raw
from tickdsl.training.torchvision_import import import_torchvision

#: The arrays of decoded picture folders are kept here, in the data folder.
DECODED = "decoded"

_FASHION = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
_IDX = {"mnist": ("MNIST", tuple("0123456789")), "fashion-mnist": ("FashionMNIST", _FASHION)}
_CIFAR = {
    "cifar10": ("CIFAR10", "cifar-10-batches-py", [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]),
    "cifar100": ("CIFAR100", "cifar-100-python", ["train", "test"]),
}
_TINY_IMAGENET = "tiny-imagenet-200"


@attrs.frozen
class Source:
    """A data set that was found: how to read it, and the digest of the bytes it is read from.

    takes: the options that the reader applies itself.
    """

    read: Callable[[], Raw]
    digest: Callable[[], str]
    takes: tuple[str, ...] = ()


def source(name: str, root: Path, options: Mapping[str, Any]) -> Source:
    """The source of a data set of the catalogue, fetched through torchvision where it is not there yet.

    `options` are complete. TickdslError where the files are neither there nor to be had.
    """
    place = Path(options["path"]) if options.get("path") else None
    if name == "digits":
        return Source(digits.read, partial(files_digest, [digits.FILE]))
    if name == "synthetic":
        shape = {key: options[key] for key in ("classes", "size", "channels", "train", "test")}
        return Source(partial(synthetic.read, **shape), synthetic_digest, takes=("size", "channels"))
    if name not in DATASETS.builtin:
        return _own(name, root, options)
    if name in _IDX:
        return _idx(name, root, place)
    if name in _CIFAR:
        return _cifar(name, place or root)
    if name == "folder" and place is None:
        raise TickdslError("`data folder` needs to know where", 'add path="…", a folder or an archive')
    return _pictures(place or _tiny_imagenet(root), root, options["size"])


def _own(name: str, root: Path, options: Mapping[str, Any]) -> Source:
    """A plug-in is known by what it gives: wherever that lies, an edit of the code alone changes nothing."""
    taken = DATASETS[name].own
    given = json.dumps({word.replace("-", "_"): options[word] for word in taken}, sort_keys=True)
    read = partial(custom.read, name, root.absolute(), given)
    return Source(read, lambda: custom.digest(read()), takes=taken)


def synthetic_digest() -> str:
    """Names the rule by which synthetic pictures are drawn; a new rule needs a new name."""
    return "synthetic 1"


def files_digest(paths: Iterable[Path]) -> str:
    """SHA-256 over the contents of files, in order; each is read once per process while it is unchanged."""
    total = hashlib.sha256()
    for path in paths:
        facts = path.stat()
        total.update(_file_digest(path, facts.st_size, facts.st_mtime_ns))
    return total.hexdigest()


@lru_cache(maxsize=1 << 17)
def _file_digest(path: Path, size: int, changed: int) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _idx(name: str, root: Path, place: Path | None) -> Source:
    kind, class_names = _IDX[name]
    folders = [place, place / "raw", place / kind / "raw"] if place else [root / kind / "raw", root / name]
    found = idx.find(folders)
    if found is None and place is None:
        _fetch(kind, root, f"the four *-ubyte.gz files of {name} into {root / kind / 'raw'}")
        found = idx.find(folders)
    if found is None:
        raise _missing(name, folders[0], ", ".join(f"{stem}.gz" for stem in idx.STEMS))
    return Source(partial(idx.read, found, class_names), partial(files_digest, found))


def _cifar(name: str, root: Path) -> Source:
    kind, below, parts = _CIFAR[name]
    paths = [root / below / part for part in parts]
    if not all(path.is_file() for path in paths):
        _fetch(kind, root, f"the unpacked folder {below} into {root}")
    return Source(partial(_read_cifar, kind, root), partial(files_digest, paths))


def _read_cifar(kind: str, root: Path) -> Raw:
    datasets = import_torchvision().datasets
    try:
        train, test = (getattr(datasets, kind)(str(root), train=which) for which in (True, False))
    except (RuntimeError, OSError) as error:
        raise TickdslError(f"{kind} in {root} is damaged: {error}", "remove its folder and fetch it again") from error
    return Raw(
        train.data.transpose(0, 3, 1, 2), np.array(train.targets, dtype=np.int64),
        test.data.transpose(0, 3, 1, 2), np.array(test.targets, dtype=np.int64), tuple(train.classes),
    )  # fmt: skip


def _fetch(kind: str, root: Path, instead: str) -> None:
    """Let torchvision fetch a data set into `root`; TickdslError saying what to put where if it cannot."""
    datasets = import_torchvision().datasets
    try:
        getattr(datasets, kind)(str(root), train=True, download=True)
    except (RuntimeError, OSError) as error:
        why = str(error).splitlines()[0].rstrip(":")
        raise TickdslError(f"{kind} is not in {root} and cannot be fetched: {why}", f"put {instead}") from error


def _tiny_imagenet(root: Path) -> Path:
    for place in (root / _TINY_IMAGENET, root / f"{_TINY_IMAGENET}.zip"):
        if place.exists():
            return place
    raise _missing("tiny-imagenet", root, f"{_TINY_IMAGENET}.zip, or its folder {_TINY_IMAGENET}")


def _missing(name: str, where: Path, what: str) -> TickdslError:
    return TickdslError(f"{name} is not there", f"put {what} into {where}")


def _pictures(place: Path, root: Path, size: int) -> Source:
    found = files(place)

    def digest() -> str:
        names = [path.relative_to(place).as_posix() for path in found] if place.is_dir() else []
        return hashlib.sha256("\n".join([*names, files_digest(found)]).encode()).hexdigest()

    def read() -> Raw:
        key = hashlib.sha256(f"1 {digest()} {size}".encode()).hexdigest()[:24]
        return folder.read(place, size, root / DECODED / f"{key}.npz")

    return Source(read, digest)
