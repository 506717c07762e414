"""A study as JSON: the resolved plan, its steps, and the estimated time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from tickdsl.engine.scheduler.forecast import epochs, steps_to_run
from tickdsl.inspect.estimate import Estimate, estimate_duration
from tickdsl.plan import model
from tickdsl.plan.study import Study
from tickdsl.records.store import Store


def as_json(study: Study, store: Store | None, data: Path) -> dict[str, Any]:
    """The JSON object of a study; `time` is null if the time cannot be estimated. `data`: the folder of data sets."""
    no_results: dict[str, Any] = {}
    to_run = steps_to_run(study, *((store.__contains__, store.metrics) if store else (no_results.__contains__,)))
    time = estimate_duration(study, to_run, store, data)
    return {
        "v": 1,
        "plan": model.as_json(study.plan),
        "time": {**attrs.asdict(time), "device_hours": time.device_hours} if isinstance(time, Estimate) else None,
        "steps": [
            {
                "key": key,
                **study.step(key).parts,
                "label": study.graph.nodes[key]["label"],
                "epochs": epochs(study.step(key)),
                "stored": store is not None and key in store,
            }
            for key in study.graph
        ],
    }
