"""Model graphs of dense networks, cached in the user's cache directory; a hit loads no torch."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from pathlib import Path

import attrs

import tickdsl
from tickdsl.graph.cache import cache_path, load_or_trace
from tickdsl.graph.model import ModelGraph
from tickdsl.plan.model import Arm, Data, Model
from tickdsl.plugins import is_plugin, network_identity
from tickdsl.records.canonical import canonical_json
from tickdsl.training import catalogue
from tickdsl.training.catalogue.input_shapes import InputShape, is_tokens, shape_as_json

#: The default folder of the data sets.
DEFAULT_DATA_DIR = Path(".tick/data")


#: The folders of the code that determines a graph.
_SOURCE_FOLDERS = ("graph", "training/models")


def dense_graph(arm: Arm, data: Path | None) -> ModelGraph:
    """The model graph of an arm's dense network."""
    shape, classes = image_shape_and_classes(arm.data, data or DEFAULT_DATA_DIR)
    return model_graph(
        arm.model.name, canonical_json(catalogue.architecture_options(arm.model.options)), classes, shape
    )


@functools.lru_cache(maxsize=16)
def model_graph(name: str, options: bytes, classes: int, shape: InputShape) -> ModelGraph:
    """The graph of a network of the catalogue for `classes` and inputs of `shape`.

    `options` is canonical JSON. Raises TickdslError if the network does not exist or cannot process such images.
    """
    traced: list[ModelGraph] = []

    def trace() -> ModelGraph:
        from tickdsl.engine.building import trace_model

        traced.append(trace_model(name, options, classes, shape))
        return traced[0]

    try:
        cache_dir = graph_cache_dir()
        cache_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        return load_or_trace(cache_dir, _cache_key(name, options, classes, shape), trace)
    except (OSError, RuntimeError):  # no home directory, or it cannot be written: trace without the cache
        return traced[0] if traced else trace()


def _cache_key(name: str, options: bytes, classes: int, shape: InputShape) -> str:
    architecture = json.loads(options)
    code = network_identity(name, architecture)
    return canonical_json([name, architecture, classes, shape_as_json(shape), _code_digest(), code]).decode()


def is_cached(arm: Arm) -> bool:
    """Whether the graph of the arm's network is cached, so that it is known without torch, data or code of the user."""
    info, options = catalogue.DATASETS[arm.data.name], arm.data.options
    uses_plugins = is_plugin("model", arm.model.name) or is_plugin("data set", arm.data.name)
    uses_plugins = uses_plugins or any(is_plugin("criterion", group.prune.by) for group in arm.rounds)
    if uses_plugins or arm.transfer is not None or info.shape is None or info.classes is None:
        return False
    if not is_tokens(info.shape) and options.get("channels", info.shape[0]) != info.shape[0] != 1:
        return False  # whether this is possible is known only when the data set is read
    shape, classes = image_shape_and_classes(arm.data, DEFAULT_DATA_DIR)
    key = _cache_key(arm.model.name, canonical_json(catalogue.architecture_options(arm.model.options)), classes, shape)
    try:
        return cache_path(graph_cache_dir(), key).is_file()
    except (OSError, RuntimeError):
        return False


def graph_cache_dir() -> Path:
    """The folder of the cached graphs: `tickdsl/graphs` in the user's cache directory.

    Raises RuntimeError if there is no home directory.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tickdsl" / "graphs"


@functools.cache
def _code_digest() -> str:
    """A digest of the code that builds and traces networks; graphs of other versions of the code are not used."""
    digest = hashlib.sha256()
    root = Path(tickdsl.__file__).parent
    for folder in _SOURCE_FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def image_shape_and_classes(data: Data, root: Path) -> tuple[InputShape, int]:
    """The shape of the input, or of several by name, and the number of outputs of a data set.

    The data set is read only if the catalogue does not say. Raises TickdslError if it cannot be read.
    """
    info = catalogue.DATASETS[data.name]
    options = dict(data.options)
    if info.shape is None or info.classes is None:
        facts = data_facts(data, root)
        return facts.shape, facts.classes
    if is_tokens(info.shape):
        return (options.get("length") or info.shape[0], info.shape[1]), info.classes
    channels, height, width = info.shape
    requested_channels = options.get("channels") or channels
    if requested_channels != channels and channels != 1 and not info.is_drawn:
        facts = data_facts(data, root)  # raises an error that says why
        return facts.shape, facts.classes
    height, width = (options.get("size") or height), (options.get("size") or width)
    return (requested_channels, height, width), options.get("classes", info.classes)


def task_of(model: Model, data: Data, root: Path) -> str:
    """The name of the task of a model on a data set: the model's if it is made for one, else that of the data.

    The data set is read only if the catalogue does not say. Raises TickdslError if it cannot be read.
    """
    return catalogue.MODELS[model.name].task or catalogue.DATASETS[data.name].task or data_facts(data, root).task


@attrs.frozen
class DataFacts:
    """What reading a data set tells: input shape, number of outputs, and what a user should know.

    notes: what was skipped or converted. untrained, untested: the classes without training or test images. task: the
    name of its task.
    """

    shape: InputShape
    classes: int
    notes: tuple[str, ...]
    untrained: tuple[str, ...]
    untested: tuple[str, ...]
    task: str = "classify"


def data_facts(data: Data, root: Path) -> DataFacts:
    """Read a data set, or remember it if its files have not changed. Raises TickdslError if it cannot be read."""
    from tickdsl.training.data import fingerprints

    options = dict(data.options)
    state: tuple[str, ...] = ()
    if data.name in catalogue.DATASETS.builtin:  # plug-ins remember their own data
        state = (fingerprints.fingerprint(data.name, root=root, options=options),)
        state += fingerprints.skipped(data.name, root=root, options=options)
    return _read_facts(data.name, canonical_json(options), root, state)


@functools.lru_cache(maxsize=16)
def _read_facts(name: str, options: bytes, root: Path, state: tuple[str, ...]) -> DataFacts:
    """The facts about a data set. state: what they depend on besides the arguments."""
    from tickdsl.training.data import datasets

    dataset = datasets.load(name, root=root, options=json.loads(options))
    return DataFacts(
        dataset.shape,
        dataset.classes,
        dataset.notes,
        untrained=dataset.classes_without("train"),
        untested=dataset.classes_without("test"),
        task=dataset.task.name,
    )
