"""Model graphs kept on disk, so that a second look at a network needs no torch."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tickdsl.graph.model import FORMAT, ModelGraph

_PACKAGES = ("torch", "torchvision", "tickdsl")


def load_or_trace(folder: Path, key: str, make: Callable[[], ModelGraph]) -> ModelGraph:
    """The graph kept under `key` in `folder`, or else the one that `make` gives, which is then kept.

    The key names the network and the shape of its inputs; the versions of torch, torchvision and tickdsl are added
    to it. What cannot be read is made again.
    """
    path = place(folder, key)
    try:
        return ModelGraph.from_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        graph = make()
        _write(path, graph.to_json())
        return graph


def place(folder: Path, key: str) -> Path:
    """Where the graph of a key is kept."""
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
    """Whole or not at all, also with several writers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
