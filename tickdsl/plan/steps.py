"""Steps: pure operations, identified by a hash of their inputs."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import attrs

from tickdsl.records.canonical import digest

#: The version of each operation. Raise it when the same arguments give another result.
OPERATIONS: dict[str, int] = {
    "features": 1,
    "init": 2,
    "train": 2,
    "prune": 3,
    "overlap": 1,
    "refill": 1,
    "regroup": 1,
    "grow": 1,
    "mix": 1,
    "perturb": 1,
    "align": 1,
    "mask": 1,
    "random-structure": 1,
    "ticket": 1,
    "recalibrate": 1,
    "evaluate": 2,
    "transfer": 1,
    "elastic": 2,
    "robustness": 2,
    "latency": 2,
    "memory": 2,
    "barrier": 2,
    "similarity": 1,
    "pruned": 1,
    "candidate": 1,
    "ensemble": 1,
    "metric": 2,
    "fid": 1,
}

#: The tasks whose networks are judged in features of a classifier: the parent `features` of the steps that judge them.
TASKS_WITH_FEATURES = ("generate",)
#: The tasks whose networks have parts that are trained in turn.
TASKS_IN_PHASES = ("generate",)
JUDGING_OPERATIONS = ("train", "evaluate", "pruned", "barrier")


@attrs.frozen(eq=False)
class Step:
    """One operation on the results of its parents (role -> key). Equal keys mean equal results.

    `args` holds JSON values only, without defaults. Arm names, file times, formatting and devices are not part of a
    step, so renaming an arm or moving a plan re-runs nothing.
    """

    operation: str = attrs.field(validator=attrs.validators.in_(OPERATIONS))
    args: Mapping[str, Any]
    parents: Mapping[str, str]
    seed: int | None = None

    @functools.cached_property
    def parts(self) -> dict[str, Any]:
        """Everything the key is computed from; stored with the result, to explain why a key changed."""
        return {
            "operation": self.operation,
            "version": OPERATIONS[self.operation],
            "args": _keyed_args(self.args),
            "parents": dict(self.parents),
            "seed": self.seed,
        }

    @functools.cached_property
    def key(self) -> str:
        """The SHA-256 hex digest of `parts`."""
        return digest(self.parts)

    @property
    def structure(self) -> str | None:
        """The step that holds the structure of the network whose weights this step stores; None if that is dense."""
        return structure_of(self.key, self.operation, self.args, self.parents)


#: The arguments of trainings that change the masks: their results hold a structure too.
_MASK_CHANGES = ("gradual", "evolve")


def changes_masks(operation: str, args: Mapping[str, Any]) -> bool:
    """Whether a step is a training whose result holds a structure: that of the network at its end."""
    return operation == "train" and any(name in args for name in _MASK_CHANGES)


def structure_of(key: str, operation: str, args: Mapping[str, Any], parents: Mapping[str, str]) -> str | None:
    """The step that holds the structure of the network whose weights a step has stored; None if that is dense."""
    return key if changes_masks(operation, args) else parents.get("structure")


def _keyed_args(args: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that enter the key: data and weights count by their fingerprint, not by where they are."""
    keyed = dict(args)
    for subject, places in (
        ("data", ("path", "load")),
        ("model", ("weights",)),
        ("inception", ("path",)),
        ("run", ("store",)),
    ):
        value = args.get(subject)
        if value is not None and "fingerprint" in value:
            options = {name: option for name, option in value["options"].items() if name not in places}
            keyed[subject] = {**value, "options": options}
    return keyed


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The differences between the `parts` of two steps, from theirs to ours: `args.recipe.lr: 0.1 -> 0.05`."""
    lines: list[str] = []
    for name in sorted({*ours, *theirs}):
        mine, other = ours.get(name), theirs.get(name)
        if isinstance(mine, Mapping) and isinstance(other, Mapping):
            lines += differences(mine, other, f"{prefix}{name}.")
        elif mine != other:
            lines.append(f"{prefix}{name}: {_brief(other)} -> {_brief(mine)}")
    return lines


def _brief(value: Any) -> str:
    text = "(default)" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "…"
