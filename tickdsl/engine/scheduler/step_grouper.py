"""What is begun next, and what together with it: trainings so alike that they may be done as one stacked network."""

from __future__ import annotations

import functools
from collections.abc import Collection

from tickdsl.engine.scheduler.step_scheduler import StepScheduler
from tickdsl.engine.steps.context import STRUCTURE
from tickdsl.graph.structure import Structure, StructureError
from tickdsl.plan.steps import Step
from tickdsl.plan.study import Study
from tickdsl.records.canonical import canonical_json
from tickdsl.records.store import Store

#: Operations that take moments beside a training.
_SHORT_OPERATIONS = frozenset({"init", "prune", "overlap", "random-structure", "transfer"})
#: Arguments of a step that make its training one of its own.
_UNSTACKABLE_ARGS = frozenset({"distill", "budget"})


class StepGrouper:
    """Takes steps from a frontier, up to `most` of them together."""

    def __init__(self, study: Study, store: Store, scheduler: StepScheduler, max_batch: int) -> None:
        self._study, self._scheduler, self._max_batch = study, scheduler, max_batch
        self._keys = StackingKeys(study, store)

    def take_batch(self, running: Collection[str], fragile: Collection[str]) -> list[str]:
        """The next step, and others to be given to its worker with it; nothing where none can begin now.

        Where trainings are stacked, they wait for the short steps that make more of them ready. `running` are the steps
        that are being done; those that are `fragile` are done alone.
        """
        if self._max_batch > 1:
            if short := self._scheduler.take_matching(self._is_short, 1):
                return short
            if any(self._is_short(key) for key in running):
                return []
        key = self._scheduler.take()
        return [] if key is None else [key, *self._stackable_with(key, fragile)]

    def disable(self, key: str) -> bool:
        """Stack no trainings like that of `key` any more; False where that was so before."""
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
    """Words for what trainings must have in common: those with equal words may be stacked."""

    def __init__(self, study: Study, store: Store) -> None:
        self._study, self._store = study, store
        self._disabled: set[bytes] = set()
        self._stacking_key = functools.cache(self._make_key)

    def key_for(self, key: str) -> bytes | None:
        """The words for a step; None for one that is not to be stacked. What it rests on must be there."""
        stacking_key = self._stacking_key(key)
        return None if stacking_key in self._disabled else stacking_key

    def disable(self, key: str) -> bool:
        """Stack no trainings like that of `key` any more; False where that was so before."""
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
        ):
            return None
        args = {name: value for name, value in step.args.items() if name != "noise"}
        part = step.args["data"].get("part") or {}
        # Shares of the pictures are drawn from the seed.
        part_seed = step.seed if part.get("by") == "samples" else None
        try:
            return canonical_json([args, part_seed, self._structure_sizes(step)])
        except (KeyError, StructureError):  # damaged meanwhile: the step itself will tell
            return None

    def _structure_sizes(self, step: Step) -> object:
        """What the structure of a step leaves of each channel group, and the blocks that are gone."""
        key = step.parents.get("structure")
        if key is None:
            return [{}, []]
        structure = Structure.load(self._store.get(key).folder / STRUCTURE)
        return [{name: len(units) for name, units in structure.kept.items()}, sorted(structure.removed_blocks)]
