"""Things that arrive in any order, given on in theirs: TensorBoard draws its points as they come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class ReorderBuffer(Generic[T]):
    """Holds each number's thing back until those of all smaller numbers were there."""

    def __init__(self, expected: Iterable[int]) -> None:
        self._expected = sorted(set(expected), reverse=True)
        self._waiting: dict[int, T] = {}

    def put(self, number: int, item: T) -> Iterator[tuple[int, T]]:
        """Take one in; give on what has not to wait any more."""
        self._waiting[number] = item
        while self._expected and self._expected[-1] in self._waiting:
            due = self._expected.pop()
            yield due, self._waiting.pop(due)

    def remaining(self) -> Iterator[tuple[int, T]]:
        """What still waits, in order: numbers between were not to come."""
        for number in sorted(self._waiting):
            yield number, self._waiting.pop(number)
