"""On-disk cache of model graphs, so that a network that was traced before needs no torch."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tickdsl.graph.model import FORMAT, ModelGraph
from tickdsl.patient_reads import move

_PACKAGES = ("torch", "torchvision", "tickdsl")


def load_or_trace(folder: Path, key: str, make: Callable[[], ModelGraph]) -> ModelGraph:
    """Load the graph cached under `key` in `folder`, or call `make` and cache its result.

    The key identifies the network and its input shape; the versions of torch, torchvision and tickdsl are added to it.
    A file that is damaged is replaced: its first line is the checksum of the rest.
    """
    path = cache_path(folder, key)
    cached = _read(path)
    if cached is not None:
        return cached
    graph = make()
    _write(path, graph.to_json())
    return graph


def _read(path: Path) -> ModelGraph | None:
    """The graph in a file; None if there is none, or it is damaged."""
    try:
        checksum, _, content = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    if checksum != _checksum(content):
        return None
    return ModelGraph.from_json(content.decode())


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def cache_path(folder: Path, key: str) -> Path:
    """The file in `folder` that caches the graph of `key`."""
    return folder / f"{_digest(key)}.json"


def _digest(key: str) -> str:
    parts = [key, FORMAT, *(_version(package) for package in _PACKAGES)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _write(path: Path, text: str) -> None:
    """Write atomically; safe with concurrent writers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = text.encode()
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_checksum(content) + b"\n" + content)
        move(Path(name), path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
