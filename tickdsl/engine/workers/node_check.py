"""Whether another machine can run the steps of a study as this one would: its versions, files, own code and device."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch

from tickdsl import __version__
from tickdsl.errors import TickdslError
from tickdsl.patient_reads import VISIBILITY_SECONDS, appears
from tickdsl.plan.plugin_code import named_plugins
from tickdsl.plan.study import Study
from tickdsl.plugins import allow_code, code_identity, is_plugin


@attrs.frozen
class NodeNeeds:
    """What a node needs to run the steps of a study as the machine of the run would.

    folder: the working folder, which relative paths start from. files: what steps read, by path, with the size in
    bytes; None for a folder. code: the identities of plug-ins, by kind and name. proof: a file that was just written
    in the store.
    """

    versions: Mapping[str, str]
    folder: Path
    files: Mapping[Path, int | None]
    code: Mapping[tuple[str, str], str]
    proof: Path
    device: str
    allow_code: bool


def versions_here() -> dict[str, str]:
    """The versions that results depend on: tickdsl, torch, and Python without its patch level."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"tickdsl": __version__, "torch": str(torch.__version__), "Python": python}


def needs_of(study: Study, data: Path, proof: Path, device: str, *, code_allowed: bool) -> NodeNeeds:
    """What nodes need to run the steps of a study; `data` is the folder of data sets, `proof` a file in the store."""
    files: dict[Path, int | None] = {data.absolute(): None} if data.is_dir() else {}
    code: dict[tuple[str, str], str] = {}
    texts: set[str] = set()  # which most steps have in common
    for key in study.graph:
        args = study.step(key).args
        texts.update(_texts(args))
        code |= {
            (kind, name): code_identity(kind, name) for _, kind, name in named_plugins(args) if is_plugin(kind, name)
        }
    files |= {path: size for text in texts for path, size in _file_here(text)}
    return NodeNeeds(versions_here(), Path.cwd(), files, code, proof, device, code_allowed)


def problems_here(needs: NodeNeeds) -> list[str]:
    """Why this machine cannot run the steps, one sentence each; empty if it can. Changes the working folder."""
    problems = [
        f"it has {name} {ours}, the run has {theirs}"
        for name, ours in versions_here().items()
        if (theirs := needs.versions[name]) != ours
    ]
    try:
        os.chdir(needs.folder)
    except OSError:
        problems.append(f"it has no folder {needs.folder}, where the run was started")
    for path, size in needs.files.items():
        if not _appears(path):
            problems.append(f"it has no {path}")
        elif size is not None and path.stat().st_size != size:
            problems.append(f"its {path} has {path.stat().st_size} bytes, that of the run has {size}")
    if not _appears(needs.proof):
        problems.append(f"it does not share the store {needs.proof.parent}")
    elif not os.access(needs.proof.parent, os.W_OK):
        problems.append(f"it may not write to the store {needs.proof.parent}")
    if needs.device.startswith("cuda") and not torch.cuda.is_available():
        problems.append("its torch finds no GPU")
    return problems + _code_problems(needs)


def _code_problems(needs: NodeNeeds) -> list[str]:
    if needs.allow_code:
        allow_code()
    problems = []
    for (kind, name), identity in needs.code.items():
        try:
            if code_identity(kind, name) != identity:
                problems.append(f"its code of `{name}` differs from that of the run")
        except TickdslError as error:
            problems.append(error.message)
    return problems


def _appears(path: Path) -> bool:
    """Whether a file exists, or appears within VISIBILITY_SECONDS if its folder does."""

    def exists() -> bool:
        if path.parent.is_dir():
            list(path.parent.iterdir())  # makes NFS ask the server
        return path.exists()

    return appears(exists, VISIBILITY_SECONDS if path.parent.is_dir() else 0.0)


def _texts(value: Any) -> Iterator[str]:
    """All texts in the arguments of a step."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)


def _file_here(text: str) -> tuple[tuple[Path, int | None], ...]:
    """The file or folder of this name, with its size; nothing if there is none."""
    path = Path(text)
    try:
        if not text or not path.exists():
            return ()
        return ((path.absolute(), path.stat().st_size if path.is_file() else None),)
    except (OSError, ValueError):  # no name of a file
        return ()
