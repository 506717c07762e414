"""Whether another machine can run the steps of a study as this one would: its versions, files, own code and device."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, overload

import attrs
import torch

from tickdsl import __version__
from tickdsl.engine.machine.precision import precision_of
from tickdsl.engine.steps.surroundings import chip_name
from tickdsl.errors import TickdslError
from tickdsl.patient_reads import VISIBILITY_SECONDS, appears
from tickdsl.plan.plugin_code import named_plugins
from tickdsl.plan.study import Study
from tickdsl.plugins import allow_code, code_identity, is_plugin
from tickdsl.records.bucket import Bucket
from tickdsl.records.bucket_location import is_bucket, open_cache
from tickdsl.training.devices import AnyDevice, RemoteDevice, autocast_type, has_fast_bf16, has_tf32


@attrs.frozen
class StoreProof:
    """What was just written to the store of a run: whoever sees it shares the store.

    store: a folder, or the URL of a bucket. name: of the file or object in it.
    """

    store: str
    name: str


@attrs.frozen
class NodeNeeds:
    """What a node needs to run the steps of a study as the machine of the run would.

    folder: the working folder, which relative paths start from. files: what steps read, by path, with the size in
    bytes; None for a folder. code: the identities of plug-ins, by kind and name. proof: of sharing the store. device:
    `cpu` or `cuda`. precisions: what trainings compute in. chip: the GPU or processor that nodes must have because the
    plan measures times or memory on it; "" for any.
    """

    versions: Mapping[str, str]
    folder: Path
    files: Mapping[Path, int | None]
    code: Mapping[tuple[str, str], str]
    proof: StoreProof
    device: str
    allow_code: bool
    precisions: tuple[str, ...] = ()
    chip: str = ""

    @property
    def uses_folder(self) -> bool:
        """Whether steps read anything in the working folder."""
        return bool(self.code) or any(path.is_relative_to(self.folder) for path in self.files)


def versions_here() -> dict[str, str]:
    """The versions that results depend on: tickdsl, torch, and Python without its patch level."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"tickdsl": __version__, "torch": str(torch.__version__), "Python": python}


def needs_of(study: Study, data: Path, proof: StoreProof, device: AnyDevice, *, code_allowed: bool) -> NodeNeeds:
    """What nodes need to run the steps of a study; `data` is the folder of data sets."""
    measures_machine = {"latency", "memory"}.intersection(study.plan.metrics)
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
    return NodeNeeds(
        versions_here(),
        Path.cwd(),
        files,
        code,
        proof,
        device.type,
        code_allowed,
        tuple(sorted({precision_of(study.step(key)) for key in study.graph})),
        chip_name(device) if measures_machine else "",
    )


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
        if needs.uses_folder:
            problems.append(f"it has no folder {needs.folder}, where the run was started")
    for path, size in needs.files.items():
        if not _appears(path):
            problems.append(f"it has no {path}")
        elif size is not None and path.stat().st_size != size:
            problems.append(f"its {path} has {path.stat().st_size} bytes, that of the run has {size}")
    problems += _bucket_problems(needs.proof) if is_bucket(needs.proof.store) else _store_problems(needs.proof)
    if needs.device.startswith("cuda") and not torch.cuda.is_available():
        problems.append("its torch finds no GPU")
    else:
        problems += _device_problems(needs, torch.device(needs.device))
    return problems + _code_problems(needs)


def _store_problems(proof: StoreProof) -> Iterator[str]:
    store = Path(proof.store)
    if not _appears(store / proof.name):
        yield f"it does not share the store {store}"
    elif not os.access(store, os.W_OK):
        yield f"it may not write to the store {store}"


def _bucket_problems(proof: StoreProof) -> Iterator[str]:
    try:
        bucket = Bucket(proof.store)
        if bucket.get(proof.name) is None:
            yield f"its {proof.store} is another bucket than that of the run"
        else:
            bucket.put(proof.name, b"")
            open_cache(proof.store)
    except TickdslError as error:
        yield f"{error.message} ({error.hint})" if error.hint else error.message


def _device_problems(needs: NodeNeeds, device: torch.device) -> Iterator[str]:
    for precision in needs.precisions:
        try:
            autocast_type(precision, device)
        except TickdslError as error:
            yield error.message
    if needs.chip and (chip := chip_name(device)) != needs.chip:
        yield f"its chip is {chip}, and the plan measures times or memory on {needs.chip}"


@overload
def device_here(kind: Literal["cpu"]) -> RemoteDevice: ...
@overload
def device_here(kind: str) -> RemoteDevice | None: ...
def device_here(kind: str) -> RemoteDevice | None:
    """The processor or GPU (`cpu`, `cuda`) of this machine as others see it; None if torch finds none."""
    if kind == "cuda" and not torch.cuda.is_available():
        return None
    device = torch.device(kind)
    return RemoteDevice(device.type, has_fast_bf16(device), has_tf32(device), chip_name(device))


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
