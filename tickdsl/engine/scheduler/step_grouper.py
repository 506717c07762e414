"""Group the steps that start together: trainings that can be stacked as one network."""

from __future__ import annotations

import functools
from collections.abc import Collection

from tickdsl.engine.scheduler.step_scheduler import StepScheduler
from tickdsl.graph.structure import STRUCTURE_FILE, Structure, StructureError
from tickdsl.plan.steps import Step
from tickdsl.plan.study import Study
from tickdsl.records.canonical import canonical_json
from tickdsl.records.store import Store

#: Operations that are short compared with a training.
_SHORT_OPERATIONS = frozenset(
    {
        "init",
        "ticket",
        "prune",
        "overlap",
        "refill",
        "regroup",
        "grow",
        "random-structure",
        "recalibrate",
        "transfer",
        "mix",
        "perturb",
        "align",
        "mask",
        "elastic",
    }
)
#: Arguments that change nothing but a training's random streams.
_SEED_ARGS = frozenset({"noise", "round"})
#: Arguments of a step whose training cannot be stacked.
_UNSTACKABLE_ARGS = frozenset({"distill", "budget", "gradual", "evolve", "penalty", "soft"})
#: Fields of a recipe whose training cannot be stacked; `training.stacked.eligibility` says why.
_UNSTACKABLE_FIELDS = ("bn_l1", "clip", "accumulate", "ema", "mixup", "cutmix", "bias_lr")


class StepGrouper:
    """Takes steps from a scheduler, up to `max_batch` of them together."""

    def __init__(self, study: Study, store: Store, scheduler: StepScheduler, max_batch: int) -> None:
        self._study, self._scheduler, self._max_batch = study, scheduler, max_batch
        self._keys = StackingKeys(study, store)

    def take_batch(self, running: Collection[str], fragile: Collection[str], quiet: bool = True) -> list[str]:
        """The next step, and the steps that its worker gets with it; empty if no step can start now.

        If trainings are stacked, they wait for short steps that make more trainings ready. `running` are the steps that
        are running; `fragile` steps, whose worker has died before, run alone. `quiet` is that of `StepScheduler.take`.
        """
        if self._max_batch > 1:
            if short := self._scheduler.take_matching(self._is_short, 1):
                return short
            if any(self._is_short(key) for key in running):
                return []
        key = self._scheduler.take(quiet)
        return [] if key is None else [key, *self._stackable_with(key, fragile)]

    def disable(self, key: str) -> bool:
        """Stop stacking trainings like `key`; returns False if they were not stacked anyway."""
        return self._keys.disable(key)

    def _stackable_with(self, key: str, fragile: Collection[str]) -> list[str]:
        stacking_key = self._keys.key_for(key) if self._max_batch > 1 and key not in fragile else None
        if stacking_key is None:
            return []
        return self._scheduler.take_matching(
            lambda other: other not in fragile and self._keys.key_for(other) == stacking_key, self._max_batch - 1
        )

    def _is_short(self, key: str) -> bool:
        step = self._study.step(key)
        return step.operation in _SHORT_OPERATIONS and "settles" not in step.args


class StackingKeys:
    """Stacking keys: trainings with equal keys can be stacked."""

    def __init__(self, study: Study, store: Store) -> None:
        self._study, self._store = study, store
        self._disabled: set[bytes] = set()
        self._stacking_key = functools.cache(self._make_key)

    def key_for(self, key: str) -> bytes | None:
        """The stacking key of a step; None if it cannot be stacked. The results that it reads must be stored."""
        stacking_key = self._stacking_key(key)
        return None if stacking_key in self._disabled else stacking_key

    def disable(self, key: str) -> bool:
        """Stop stacking trainings like `key`; returns False if they were not stacked anyway."""
        stacking_key = self._stacking_key(key)
        if stacking_key is None or stacking_key in self._disabled:
            return False
        self._disabled.add(stacking_key)
        return True

    def _make_key(self, key: str) -> bytes | None:
        step = self._study.step(key)
        if (
            step.operation != "train"
            or _UNSTACKABLE_ARGS & step.args.keys()
            or step.args["recipe"].get("compile") == "on"
            or any(step.args["recipe"].get(field) for field in _UNSTACKABLE_FIELDS)
            or "optimiser" in step.args.get("code", {})
        ):
            return None
        args = {name: value for name, value in step.args.items() if name not in _SEED_ARGS}
        part = step.args["data"].get("part") or {}
        # A part by samples is drawn with the seed, so trainings of different seeds have different data.
        part_seed = step.seed if part.get("by") == "samples" else None
        try:
            return canonical_json([args, part_seed, self._structure_sizes(step)])
        except (KeyError, StructureError):  # damaged in the meantime: the step itself will report it
            return None

    def _structure_sizes(self, step: Step) -> object:
        """The number of units that the structure of a step leaves in each channel group, and the removed blocks."""
        key = step.parents.get("structure")
        if key is None:
            return [{}, []]
        structure = Structure.load(self._store.get(key).folder / STRUCTURE_FILE)
        return [{name: len(units) for name, units in structure.kept.items()}, sorted(structure.removed_blocks)]
