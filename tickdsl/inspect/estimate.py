"""How long a study will take, from the trainings that this machine did before; no guess where it did none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import numpy as np

from tickdsl.engine.scheduler.announce import epochs
from tickdsl.plan.lower import Study
from tickdsl.plan.steps import Step
from tickdsl.records.canonical import canonical
from tickdsl.records.process import host_name
from tickdsl.records.store import Store

#: Between these quantiles of the earlier trainings lies what is told as the range.
_LOW, _HIGH = 0.1, 0.9


@attrs.frozen
class Estimate:
    """Seconds with `jobs` trainings at a time, and the range that earlier trainings suggest; from so many `samples`."""

    seconds: float
    low: float
    high: float
    jobs: int
    samples: int


@attrs.frozen
class NoEstimate:
    """Why there is none."""

    reason: str


def estimate(study: Study, left: Iterable[str], store: Store | None, jobs: int) -> Estimate | NoEstimate:
    """The time that the trainings among the steps `left` take on this machine.

    Seconds per epoch are those of stored trainings of the same network on the same data with the same batch, made on
    this host; removing filters makes later ones faster, so the range is as wide as theirs was.
    """
    wanted: dict[bytes, float] = {}
    names: dict[bytes, str] = {}
    for key in left:
        step = study.step(key)
        length = epochs(step)
        if step.operation != "train" or "prefix_of" in study.graph.nodes[key]:
            continue
        if length is None:
            return NoEstimate("a recipe counts in steps, not in epochs")
        kind = _kind(step.parts["args"])
        wanted[kind] = wanted.get(kind, 0.0) + length
        names[kind] = _name(step)
    if not wanted:
        return Estimate(0.0, 0.0, 0.0, jobs, 0)
    known = _known(store, set(wanted))
    for kind in wanted:
        if kind not in known:
            return NoEstimate(f"no training of {names[kind]} was kept by this machine yet")
    middle, low, high = (
        sum(length * float(np.quantile(known[kind], q)) for kind, length in wanted.items()) / jobs
        for q in (0.5, _LOW, _HIGH)
    )
    return Estimate(middle, low, high, jobs, sum(len(known[kind]) for kind in wanted))


def _known(store: Store | None, kinds: set[bytes]) -> dict[bytes, list[float]]:
    """Seconds per epoch of the trainings that this host made, by kind."""
    found: dict[bytes, list[float]] = {}
    for key in store.keys() if store is not None else ():
        data = store.get(key).data if store is not None else {}
        if data.get("operation") != "train" or data.get("made", {}).get("host") != host_name():
            continue
        parts = data["parts"]
        length = epochs(Step("train", parts["args"], parts["parents"], parts["seed"]))
        kind = _kind(parts["args"])
        if kind in kinds and length and data["seconds"] > 0:
            found.setdefault(kind, []).append(data["seconds"] / length)
    return found


def _kind(args: Mapping[str, Any]) -> bytes:
    return canonical([args["model"], args["data"], args["recipe"].get("batch")])


def _name(step: Step) -> str:
    part = step.args["data"].get("part")
    where = f" (part {part['index'] + 1} of {part['parts']})" if part else ""
    return f"{step.args['model']['name']} on {step.args['data']['name']}{where}"
