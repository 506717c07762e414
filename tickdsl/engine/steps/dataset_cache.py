"""The data sets of a process: each held once, and verified to be those that the plan was read with."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tickdsl.errors import TickdslError
from tickdsl.plugins import PluginError
from tickdsl.records.canonical import canonical_json
from tickdsl.training.catalogue import DATASETS
from tickdsl.training.catalogue.datasets import PLACE_OPTIONS
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.tasks import find_task

#: The most bytes of whole data sets that a process keeps, beside the one in use.
_MAX_BYTES = 2 << 30
#: The most parts of data sets that a process keeps; others are taken again when they are needed.
_MAX_PARTS = 2


class DatasetCache:
    """Data sets by the specification in a step's arguments; what was not used for longest is forgotten.

    download: whether to download files that are missing.
    """

    def __init__(self, root: Path, *, download: bool = True) -> None:
        self._root = root
        self._download = download
        self._whole: OrderedDict[bytes, Dataset] = OrderedDict()
        self._parts: OrderedDict[bytes, Dataset] = OrderedDict()
        self._places: dict[str, dict[str, Any]] = {}  # by fingerprint: where data are, which stored steps do not say

    def get(self, spec: Mapping[str, Any], seed: int | None) -> Dataset:
        """The data set of a step, or the part of it that the step names; `seed` draws a part of the samples.

        Raises TickdslError if the data are others than when the plan was read.
        """
        spec = self._with_places(spec)
        data = self._get_part(spec, seed)
        return data.for_task(find_task(spec["task"])) if "task" in spec else data

    def _with_places(self, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        """The specification with where its data are, if it is that of a stored step and another one has said so."""
        places = {name: value for name, value in spec["options"].items() if name in PLACE_OPTIONS}
        if places:
            self._places[spec["fingerprint"]] = places
        known = self._places.get(spec["fingerprint"], {})
        return {**spec, "options": {**known, **spec["options"]}}

    def _get_part(self, spec: Mapping[str, Any], seed: int | None) -> Dataset:
        part = spec.get("part")
        if part is None:
            return self._get_whole(spec)
        drawn_by = seed if part["by"] == "samples" else None  # parts of the classes are the same for all seeds
        key = canonical_json([_identity(spec), part, drawn_by])
        if key not in self._parts:
            self._parts[key] = datasets.take_part(
                self._get_whole(spec), by=part["by"], parts=part["parts"], index=part["index"], seed=seed or 0
            )
            if len(self._parts) > _MAX_PARTS:
                self._parts.popitem(last=False)
        self._parts.move_to_end(key)
        return self._parts[key]

    def _get_whole(self, spec: Mapping[str, Any]) -> Dataset:
        key = canonical_json(_identity(spec))
        if key not in self._whole:
            self._whole[key] = _load(spec, self._root, self._download)
            while len(self._whole) > 1 and sum(map(_size, self._whole.values())) > _MAX_BYTES:
                self._whole.popitem(last=False)
        self._whole.move_to_end(key)
        return self._whole[key]


def _identity(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {name: spec.get(name) for name in ("name", "options", "fingerprint")}


def _load(spec: Mapping[str, Any], root: Path, download: bool) -> Dataset:
    name = spec["name"]
    dataset = datasets.load(name, root=root, options=spec["options"], download=download)
    if dataset.fingerprint == spec["fingerprint"]:
        return dataset
    if name in DATASETS.builtin:
        raise TickdslError(
            f"the files of `{name}` changed after the plan was read",
            "run the plan again: it computes anew what depends on them",
        )
    message = f"`{name}` returned other data than when the plan was read"
    raise PluginError(message, "return the same data on every call; seed everything that is random")


def _size(dataset: Dataset) -> int:
    return sum(inputs.nbytes for inputs in (dataset.train_inputs, dataset.test_inputs))
