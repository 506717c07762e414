"""The choices of processes that run a step together."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from tickdsl.training.measured_choices import Answer, MeasuredChoices
from tickdsl.training.parallel.ranks import Ranks


class ChoicesOfFirst:
    """Choices that process 0 makes, by measuring if need be, and all others follow; so all train in the same way."""

    def __init__(self, choices: MeasuredChoices, ranks: Ranks) -> None:
        self._choices, self._ranks = choices, ranks

    def settle(self, question: str, measure: Callable[[], Answer]) -> Answer:
        """The answer of process 0."""
        answer = self._choices.settle(question, measure) if self._ranks.rank == 0 else None
        return cast(Answer, self._ranks.of_first(answer))
