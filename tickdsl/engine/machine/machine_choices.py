"""The measured choices of this machine: looked up in the store, then in the user's cache, else measured.

The store keeps the choices that its results were made with. The cache makes different stores on one machine choose the
same, so that the same plan gives the same bits in each.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from tickdsl.engine.graph_cache import graph_cache_dir
from tickdsl.errors import TickdslError
from tickdsl.plurals import plural
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

        def measure_once() -> Answer:
            measured.append(measure())
            return measured[0]

        try:
            return self.cache.settle(question, measure_once)
        except TickdslError:  # the cache cannot be written
            return measured[0] if measured else measure()


def machine_choices(store: Path, log: Callable[[str], None]) -> MeasuredChoices:
    """The choices of this machine for the results in `store`; `log` receives a message for each choice."""

    def log_choice(question: str, answer: Any) -> None:
        if not isinstance(answer, list):  # tables of latencies are long
            log(describe_choice(question, answer))

    try:
        cache = graph_cache_dir().with_name("choices")
    except RuntimeError:  # no home directory
        return KeptChoices(store / "choices", log_choice)
    return _StoreThenCache(KeptChoices(store / "choices", log_choice), KeptChoices(cache))


def describe_choice(question: str, answer: bool | float) -> str:
    """A log message for an answer.

    Questions are part of the keys of stored answers, so they are not reworded but translated here.
    """
    for pattern, describe in _DESCRIPTIONS:
        if match := re.fullmatch(pattern, question):
            subject = match["subject"].replace(" pictures,", " images,").replace(" 1 threads", " 1 thread")
            return f"{describe(answer, match)}: {subject} (measured on this machine)"
    return f"{question}: {_answer_text(answer)} (measured on this machine)"


def _answer_text(answer: bool | float) -> str:
    if isinstance(answer, bool):
        return "yes" if answer else "no"
    return f"{answer:.3g}" if math.isfinite(answer) else "none"


#: Patterns of questions, and what an answer to each means.
_DESCRIPTIONS: tuple[tuple[str, Callable[[bool | float, re.Match[str]], str]], ...] = (
    (
        r"contiguous instead of channels_last for (?P<subject>.*)",
        lambda faster, _: f"memory layout {'contiguous' if faster else 'channels_last'}",
    ),
    (r"seconds of a step of (?P<subject>.*)", lambda seconds, _: f"{seconds:.3g} s per step"),
    (
        r"steps that pay back a compilation of (?P<subject>.*)",
        lambda steps, _: (
            f"compilation pays off after {plural(math.ceil(steps), 'step')}"
            if math.isfinite(steps)
            else "compilation never pays off"
        ),
    ),
    (
        r"times that a step of (?P<count>\d+) trainings in one is faster than of one by one, on (?P<subject>.*)",
        lambda speedup, match: f"{match['count']} trainings stacked are {speedup:.2f} times as fast",
    ),
    (r"network latency of (?P<subject>.*)", lambda seconds, _: f"latency {1000 * seconds:.3g} ms"),
    (r"(?P<subject>sparse linear .*)", lambda faster, _: f"sparse kernel {'faster' if faster else 'not faster'}"),
)
