"""Restores the order of numbered items, because TensorBoard draws points in the order they are written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class ReorderBuffer(Generic[T]):
    """Holds back each item until all items with smaller expected numbers have arrived."""

    def __init__(self, expected: Iterable[int]) -> None:
        self._expected = sorted(set(expected), reverse=True)
        self._waiting: dict[int, T] = {}

    def put(self, number: int, item: T) -> Iterator[tuple[int, T]]:
        """Add an item and yield the (number, item) pairs that are now due, in order."""
        self._waiting[number] = item
        while self._expected and self._expected[-1] in self._waiting:
            due = self._expected.pop()
            yield due, self._waiting.pop(due)

    def remaining(self) -> Iterator[tuple[int, T]]:
        """Yield the items still held back, in order, because the numbers between them never arrived."""
        for number in sorted(self._waiting):
            yield number, self._waiting.pop(number)
