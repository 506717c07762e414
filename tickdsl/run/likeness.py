"""Which trainings of a study are so alike that they may be done as one stacked network."""

from __future__ import annotations

import functools

from tickdsl.graph.structure import Structure, StructureError
from tickdsl.plan.lower import Study
from tickdsl.plan.steps import Step
from tickdsl.records.canonical import canonical
from tickdsl.records.store import Store
from tickdsl.run.context import STRUCTURE

#: Arguments of a step that make its training one of its own.
_SINGLE = frozenset({"distill", "budget"})


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
