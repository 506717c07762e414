"""Mutated plans never crash or hang the checker, and every syntax error is reported."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest
from mutations import mutate, plans

from tickdsl.checks import CheckReport, check
from tickdsl.lang.findings.render import render
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.reading.parse import parse
from tickdsl.lang.syntax import Source

#: The time limit of one check in seconds; most mutations take a few milliseconds.
BOUND = 10
PARTS = 4


@contextmanager
def bounded(text: str) -> Iterator[None]:
    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not checked within {BOUND} s:\n{text}")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(BOUND)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def checked(text: str) -> CheckReport:
    return check(load_source(Source("mutated.plan", text)), network=False)


def holds(text: str) -> None:
    with bounded(text):
        source = Source("mutated.plan", text)
        broken = parse(source)[1]
        report = checked(text)
    for diagnostic in report.diagnostics:
        inside = diagnostic.span.source.text
        assert 0 <= diagnostic.span.start <= diagnostic.span.end <= len(inside), (diagnostic, text)
    errors = [d for d in report.diagnostics if d.severity == "error" and d.span.source.path == source.path]
    assert bool(errors) or not broken, text
    assert (report.plan is None) == (report.errors > 0) or not text.strip(), text
    for form in ("full", "concise"):
        assert bool(render(report.diagnostics, form)) == bool(report.diagnostics)


def mutations(number: int, seed: int) -> Iterator[str]:
    dice, corpus = random.Random(seed), plans()
    for _ in range(number):
        yield mutate(dice.choice(corpus), dice)


def test_the_corpus_is_valid_and_large() -> None:
    corpus = plans()
    assert len(corpus) > 80
    broken = [text for text in corpus if parse(Source("x.plan", text))[1]]
    assert broken == []


def test_some_mutations() -> None:
    texts = list(mutations(300, seed=0))
    failing = [text for text in texts if parse(Source("x.plan", text))[1]]
    assert 60 < len(failing) < 290, "some mutations break the plan, but not all"
    for text in texts:
        holds(text)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_a_hundred_thousand_mutations(part: int) -> None:
    for text in mutations(100_000 // PARTS, seed=part + 1):
        holds(text)
