"""Where the networks of a run are in the store: the keys of the steps that made them, by contestant."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from tickdsl.records.events import StepInfo
from tickdsl.records.store import is_key
from tickdsl.results.state import MetricKey, RunState, StepState

#: The operations whose results hold a structure.
_STRUCTURE_OPERATIONS = (
    "ticket", "prune", "overlap", "refill", "regroup", "grow", "align", "random-structure",
)  # fmt: skip
#: Contestants with the structure of the dense network, in events that do not name the roles of parents.
_DENSE_CONTESTANTS = ("dense", "early")


@attrs.frozen
class StoreKeys:
    """The keys in the store of one network of a run.

    `weights`: the step whose result holds its trained weights; `structure`: that of its structure, None if it has that
    of the dense network; `evaluation`: the step that measured its score.
    """

    weights: str
    structure: str | None
    evaluation: str


def store_keys(state: RunState) -> dict[MetricKey, StoreKeys]:
    """The keys of every network that the run measures, by (arm id, contestant, level, seed), trained or not.

    `Store.get(key)` raises KeyError for a network that was not trained, or whose result was removed.
    """
    steps = {(m.arm, m.contestant, m.level, m.seed): m.step for m in state.measurements}
    steps |= {key: metric.step for key, metric in state.metrics.items()}
    keys = {}
    for key, name in steps.items():
        step = state.steps.get(name)
        if step is not None and is_key(step.info.key):
            # Training and evaluating a network both store its weights and measure its score.
            keys[key] = StoreKeys(step.info.key, _structure(step.info, key[1], state.steps), step.info.key)
    return keys


def _structure(info: StepInfo, contestant: str, steps: Mapping[str, StepState]) -> str | None:
    """The key of the structure of the network that a step has tested."""
    if info.own_structure:
        return info.key
    if len(info.roles) == len(info.parents):
        names = [parent for role, parent in zip(info.roles, info.parents, strict=True) if role == "structure"]
    elif contestant in _DENSE_CONTESTANTS:
        names = []
    else:
        names = [name for name in info.parents if name in steps and _has_structure(steps[name])]
    # The last one: a prune that chose its weights too is the first parent, and a later prune the second.
    structure = steps[names[-1]].info.key if names and names[-1] in steps else ""
    return structure if is_key(structure) else None


def _has_structure(step: StepState) -> bool:
    return step.info.operation in _STRUCTURE_OPERATIONS
