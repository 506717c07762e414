"""What this machine was found to do faster: the store's word counts, then the user's cache; then it is measured.

The store repeats what its results were made with. The cache lets other stores of the machine choose alike, so that the
same plan leaves the same bits in each.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs

from tickdsl.engine.graphs import folder
from tickdsl.errors import TickdslError
from tickdsl.records.choices import KeptChoices
from tickdsl.training.autotune import Answer, Choices


@attrs.frozen
class _Both:
    store: Choices
    cache: Choices

    def settle(self, question: str, measure: Callable[[], Answer]) -> Answer:
        return self.store.settle(question, lambda: self._cached(question, measure))

    def _cached(self, question: str, measure: Callable[[], Answer]) -> Answer:
        measured: list[Answer] = []

        def once() -> Answer:
            measured.append(measure())
            return measured[0]

        try:
            return self.cache.settle(question, once)
        except TickdslError:  # it cannot be written
            return measured[0] if measured else measure()


def machine_choices(store: Path, say: Callable[[str], None]) -> Choices:
    """The choices of this machine for the results in `store`; `say` is told each once."""
    try:
        cache = folder().with_name("choices")
    except RuntimeError:  # no home directory
        return KeptChoices(store / "choices", say)
    return _Both(KeptChoices(store / "choices", say), KeptChoices(cache))
