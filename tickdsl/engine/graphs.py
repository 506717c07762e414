"""The model graphs of dense networks: kept in the user's cache, so that a network is traced once. No torch on a hit."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from pathlib import Path

import tickdsl
from tickdsl.graph.cache import cached, place
from tickdsl.graph.model import ModelGraph
from tickdsl.plan.model import Arm, Data
from tickdsl.plugins import added, identity
from tickdsl.records.canonical import canonical
from tickdsl.training import catalogue

#: Where data sets lie unless the plan or a flag says otherwise.
DATA = Path(".tick/data")

Shape = tuple[int, int, int]

#: Where the code lies that a graph is made by.
_MAKERS = ("graph", "training/models")


def dense_graph(arm: Arm, data: Path | None) -> ModelGraph:
    """The model graph of an arm's dense network."""
    shape, classes = pictures(arm.data, data or DATA)
    return model_graph(arm.model.name, canonical(catalogue.shaping(arm.model.options)), classes, shape)


@functools.lru_cache(maxsize=16)
def model_graph(name: str, options: bytes, classes: int, shape: Shape) -> ModelGraph:
    """The graph of a catalogue network for `classes` and pictures of `shape` (C, H, W); `options` is canonical JSON.

    Raises TickdslError where the network does not exist or cannot take such pictures.
    """
    made: list[ModelGraph] = []

    def make() -> ModelGraph:
        from tickdsl.engine.building import traced

        made.append(traced(name, options, classes, shape))
        return made[0]

    try:
        home = folder()
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        return cached(home, _key(name, options, classes, shape), make)
    except (OSError, RuntimeError):  # no home directory, or one that cannot be written: tracing only costs time
        return made[0] if made else make()


def _key(name: str, options: bytes, classes: int, shape: Shape) -> str:
    own = identity("model", name) if added("model", name) else ""
    return canonical([name, json.loads(options), classes, list(shape), _code(), own]).decode()


def kept(arm: Arm) -> bool:
    """Whether the arm's network was traced before: it is looked at without torch, without data, without users' code."""
    info, options = catalogue.DATASETS[arm.data.name], arm.data.options
    own = added("model", arm.model.name) or added("data set", arm.data.name)
    own = own or any(added("criterion", group.prune.by) for group in arm.rounds)
    if own or arm.transfer is not None or info.shape is None or info.classes is None:
        return False
    if options.get("channels", info.shape[0]) != info.shape[0] and info.shape[0] != 1:
        return False  # only its data say whether that can be
    shape, classes = pictures(arm.data, DATA)
    key = _key(arm.model.name, canonical(catalogue.shaping(arm.model.options)), classes, shape)
    try:
        return place(folder(), key).is_file()
    except (OSError, RuntimeError):
        return False


def folder() -> Path:
    """Where graphs are kept: `tickdsl/graphs` in the user's cache directory."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tickdsl" / "graphs"


@functools.cache
def _code() -> str:
    """A digest of the code that builds and traces networks: a graph that another made is not looked at."""
    digest = hashlib.sha256()
    root = Path(tickdsl.__file__).parent
    for maker in _MAKERS:
        for path in sorted((root / maker).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def pictures(data: Data, root: Path) -> tuple[Shape, int]:
    """The shape (C, H, W) and the number of classes of a data set; read only where the catalogue cannot tell."""
    info = catalogue.DATASETS[data.name]
    options = dict(data.options)
    if info.shape is None or info.classes is None:
        return _read(data.name, canonical(options), root)
    channels, height, width = info.shape
    wanted = options.get("channels") or channels
    if wanted != channels and channels != 1 and data.name != "synthetic":
        return _read(data.name, canonical(options), root)  # which says why this cannot be
    height, width = (options.get("size") or height), (options.get("size") or width)
    return (wanted, height, width), options.get("classes", info.classes)


@functools.lru_cache(maxsize=16)
def _read(name: str, options: bytes, root: Path) -> tuple[Shape, int]:
    from tickdsl.training.data import datasets

    found = datasets.load(name, root=root, options=json.loads(options))
    return found.shape, found.classes
