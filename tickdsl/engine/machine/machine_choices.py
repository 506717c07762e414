"""What this machine was found to do faster: the store's word counts, then the user's cache; then it is measured.

The store repeats what its results were made with. The cache lets other stores of the machine choose alike, so that the
same plan leaves the same bits in each.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs

from tickdsl.engine.graph_cache import graph_cache_dir
from tickdsl.errors import TickdslError
from tickdsl.records.kept_choices import KeptChoices
from tickdsl.training.measured_choices import Answer, MeasuredChoices


@attrs.frozen
class _StoreThenCache:
    store: MeasuredChoices
    cache: MeasuredChoices

    def settle(self, question: str, measure: Callable[[], Answer]) -> Answer:
        return self.store.settle(question, lambda: self._settle_in_cache(question, measure))

    def _settle_in_cache(self, question: str, measure: Callable[[], Answer]) -> Answer:
        measured: list[Answer] = []

        def once() -> Answer:
            measured.append(measure())
            return measured[0]

        try:
            return self.cache.settle(question, once)
        except TickdslError:  # it cannot be written
            return measured[0] if measured else measure()


def machine_choices(store: Path, log: Callable[[str], None]) -> MeasuredChoices:
    """The choices of this machine for the results in `store`; `log` is told each once."""
    try:
        cache = graph_cache_dir().with_name("choices")
    except RuntimeError:  # no home directory
        return KeptChoices(store / "choices", log)
    return _StoreThenCache(KeptChoices(store / "choices", log), KeptChoices(cache))
