"""What is begun next, and what together with it: trainings so alike that they may be done as one stacked network."""

from __future__ import annotations

import functools
from collections.abc import Collection

from tickdsl.engine.scheduler.frontier import Frontier
from tickdsl.engine.steps.context import STRUCTURE
from tickdsl.graph.structure import Structure, StructureError
from tickdsl.plan.lower import Study
from tickdsl.plan.steps import Step
from tickdsl.records.canonical import canonical
from tickdsl.records.store import Store

#: Operations that take moments beside a training.
_SHORT = frozenset({"init", "prune", "overlap", "random-structure", "transfer"})
#: Arguments of a step that make its training one of its own.
_SINGLE = frozenset({"distill", "budget"})


class Grouping:
    """Takes steps from a frontier, up to `most` of them together."""

    def __init__(self, study: Study, store: Store, frontier: Frontier, most: int) -> None:
        self._study, self._frontier, self._most = study, frontier, most
        self._likeness = Likeness(study, store)

    def take(self, running: Collection[str], fragile: Collection[str]) -> list[str]:
        """The next step, and others to be given to its worker with it; nothing where none can begin now.

        Where trainings are stacked, they wait for the short steps that make more of them ready. `running` are the steps
        that are being done; those that are `fragile` are done alone.
        """
        if self._most > 1:
            if short := self._frontier.take_also(self._is_short, 1):
                return short
            if any(self._is_short(key) for key in running):
                return []
        key = self._frontier.take()
        return [] if key is None else [key, *self._beside(key, fragile)]

    def refuse(self, key: str) -> bool:
        """Stack no trainings like that of `key` any more; False where that was so before."""
        return self._likeness.refuse(key)

    def _beside(self, key: str, fragile: Collection[str]) -> list[str]:
        like = self._likeness.of(key) if self._most > 1 and key not in fragile else None
        if like is None:
            return []
        return self._frontier.take_also(
            lambda other: other not in fragile and self._likeness.of(other) == like, self._most - 1
        )

    def _is_short(self, key: str) -> bool:
        step = self._study.step(key)
        return step.operation in _SHORT and "settles" not in step.args


class Likeness:
    """Words for what trainings must have in common: those with equal words may be stacked."""

    def __init__(self, study: Study, store: Store) -> None:
        self._study, self._store = study, store
        self._refused: set[bytes] = set()
        self._words = functools.cache(self._found)

    def of(self, key: str) -> bytes | None:
        """The words for a step; None for one that is not to be stacked. What it rests on must be there."""
        words = self._words(key)
        return None if words in self._refused else words

    def refuse(self, key: str) -> bool:
        """Stack no trainings like that of `key` any more; False where that was so before."""
        words = self._words(key)
        if words is None or words in self._refused:
            return False
        self._refused.add(words)
        return True

    def _found(self, key: str) -> bytes | None:
        step = self._study.step(key)
        if step.operation != "train" or _SINGLE & step.args.keys() or step.args["recipe"].get("compile") == "on":
            return None
        args = {name: value for name, value in step.args.items() if name != "noise"}
        part = step.args["data"].get("part") or {}
        # Shares of the pictures are drawn from the seed.
        drawn = step.seed if part.get("by") == "samples" else None
        try:
            return canonical([args, drawn, self._sizes(step)])
        except (KeyError, StructureError):  # damaged meanwhile: the step itself will tell
            return None

    def _sizes(self, step: Step) -> object:
        """What the structure of a step leaves of each channel group, and the blocks that are gone."""
        key = step.parents.get("structure")
        if key is None:
            return [{}, []]
        structure = Structure.load(self._store.get(key).folder / STRUCTURE)
        return [{name: len(units) for name, units in structure.kept.items()}, sorted(structure.removed_blocks)]
