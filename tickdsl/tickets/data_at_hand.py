"""Find the test set of a result without downloading it: to verify what is exported."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from tickdsl.engine.graph_cache import DEFAULT_DATA_DIR
from tickdsl.engine.steps.dataset_cache import DatasetCache
from tickdsl.errors import TickdslError
from tickdsl.records.paths import RunPaths
from tickdsl.training.data.datasets import Dataset


@attrs.frozen(eq=False)
class FoundData:
    """The data set of a result; None if it is not at hand, and then `why_missing` says why, as a clause."""

    dataset: Dataset | None
    why_missing: str = ""


def find_data(spec: Mapping[str, Any], seed: int | None, paths: RunPaths, root: Path | None) -> FoundData:
    """The data set that a step of a run names, exactly as it was; nothing is downloaded.

    spec: the data of the step's arguments, which do not say where it is. root: the folder of the data sets (default:
    `.tick/data`).
    """
    cache = DatasetCache(root or DEFAULT_DATA_DIR, download=False)
    reason = ""
    for place in dict.fromkeys([*_places(spec, paths), ""]):
        options = {**spec["options"], **({"path": place} if place else {})}
        try:
            return FoundData(cache.get({**spec, "options": options}, seed))
        except TickdslError as error:
            reason = reason or error.message.replace(" after the plan was read", " since the run")
    return FoundData(None, reason)


def _places(spec: Mapping[str, Any], paths: RunPaths) -> Iterator[str]:
    """The paths that the plan of a run gives for a data set."""
    try:
        plan = json.loads(paths.plan_json.read_bytes())["plan"]
        arms = [*plan["arms"], *plan["helpers"]]
        data = [arm["data"] for arm in arms] + [arm["transfer"]["data"] for arm in arms if arm["transfer"]]
    except (OSError, ValueError, KeyError, TypeError):
        return
    for entry in data:
        options = dict(entry["options"])
        place = options.pop("path", None)
        options.pop("load", None)
        if place and entry["name"] == spec["name"] and options == spec["options"]:
            yield str(place)
