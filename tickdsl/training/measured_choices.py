"""Choices that depend on measurements on this machine; each answer is kept, so that equal trainings choose alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

#: Yes or no, a measured number, or several.
Answer = TypeVar("Answer", bool, float, list[float])


class MeasuredChoices(Protocol):
    """Answers by question. A question names everything that its answer depends on, except the machine."""

    def settle(self, question: str, measure: Callable[[], Answer]) -> Answer:
        """The stored answer to `question`; if there is none, call `measure` and store what it returns."""


class InMemoryChoices:
    """Answers that are kept for as long as the process runs."""

    def __init__(self) -> None:
        self._answers: dict[str, Any] = {}

    def settle(self, question: str, measure: Callable[[], Answer]) -> Answer:
        if question not in self._answers:
            self._answers[question] = measure()
        answer: Answer = self._answers[question]
        return answer
