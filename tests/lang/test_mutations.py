"""Mutated plans never crash or hang the checker, take little time and memory, and every syntax error is reported."""

from __future__ import annotations

import random
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest
from mutations import mutate, plans
from structured_mutations import mutate_structure, trees

from tickdsl.checks import CheckReport, check
from tickdsl.cli import main
from tickdsl.lang.findings.render import FORMATS, render
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.reading.parse import parse
from tickdsl.lang.syntax import Source

#: The limits of one check: seconds of processor time, and bytes beyond what the process has; most take milliseconds.
SECONDS, MEMORY = 2, 2**30
PARTS = 4


class TooSlow(BaseException):
    """A check took longer than SECONDS. Not an Exception: `check` reports those as findings."""


@contextmanager
def bounded(text: str) -> Iterator[None]:
    def late(number: int, frame: FrameType | None) -> None:
        raise TooSlow(f"not checked within {SECONDS} s:\n{text}")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    """Allocations of more than MEMORY fail in these tests, where the system can limit them."""
    status = Path("/proc/self/status")
    size = re.search(r"VmData:\s+(\d+) kB", status.read_text()) if status.exists() else None
    if size is None:
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (int(size[1]) * 1024 + MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_DATA, before)


def holds(text: str, *, network: bool = False) -> CheckReport:
    """Check a plan, and assert what is true of every text; returns the report."""
    with bounded(text):
        source = Source("mutated.plan", text)
        broken = parse(source)[1]
        report = check(load_source(source), network=network)
    for diagnostic in report.diagnostics:
        assert diagnostic.code != "TD017", f"{diagnostic.message}\n{text}"
        inside = diagnostic.span.source.text
        assert 0 <= diagnostic.span.start <= diagnostic.span.end <= len(inside), (diagnostic, text)
    errors = [d for d in report.diagnostics if d.severity == "error" and d.span.source.path == source.path]
    assert bool(errors) or not broken, text
    assert (report.plan is None) == (report.errors > 0) or not text.strip(), text
    form = FORMATS[len(text) % len(FORMATS)]
    assert bool(render(report.diagnostics, form)) == (bool(report.diagnostics) or form in ("json", "sarif"))
    return report


def mutations(number: int, seed: int) -> Iterator[str]:
    """Plans with broken text and, as many, well-formed plans that make no sense."""
    dice, corpus, structures = random.Random(seed), plans(), trees()
    for index in range(number):
        if index % 2:
            yield mutate_structure(dice.choice(structures), structures, dice)
        else:
            yield mutate(dice.choice(corpus), dice)


def test_the_corpus_is_valid_and_large() -> None:
    corpus = plans()
    assert len(corpus) > 80
    broken = [text for text in corpus if parse(Source("x.plan", text))[1]]
    assert broken == []


def test_the_structures_are_those_of_the_corpus() -> None:
    for text, tree in zip(plans(), trees(), strict=True):
        whole, _ = parse(Source("x.plan", text))
        again, errors = parse(Source("x.plan", "\n".join(map(str, tree))))
        assert not errors and again == whole


def test_some_mutations() -> None:
    texts = list(mutations(200, seed=0))
    failing = [text for text in texts if parse(Source("x.plan", text))[1]]
    assert 40 < len(failing) < 160, "some mutations break the plan, but not all"
    for text in texts:
        holds(text)


def test_some_senseless_plans_have_many_kinds_of_findings() -> None:
    dice, structures = random.Random(0), trees()
    codes: set[str] = set()
    for _ in range(150):
        codes |= {d.code for d in holds(mutate_structure(dice.choice(structures), structures, dice)).diagnostics}
    assert len(codes) > 20, "structure is changed in many ways"


@pytest.mark.parametrize("form", FORMATS)
def test_the_command_ends_with_a_code(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is that of the worst plan, and every plan is reported on."""
    texts = list(mutations(8, seed=len(form)))
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.plan").write_text(text, "utf-8", newline="")
    names = [str(tmp_path / f"{number}.plan") for number in range(len(texts))]
    assert main(["check", "--no-network", "--format", form, *names]) == 1
    captured = capsys.readouterr()
    assert captured.err == "" and "Traceback" not in captured.out
    if form == "full":
        assert all(f"{name}: " in captured.out for name in names)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_a_hundred_thousand_mutations(part: int) -> None:
    for text in mutations(100_000 // PARTS, seed=part + 1):
        holds(text)


@pytest.mark.slow
def test_mutations_on_traced_networks() -> None:
    """Whole checks: of these plans, about one in five has no errors before its network is traced."""
    import torch  # noqa: F401  # loading it is not a part of a check

    dice, structures = random.Random(9), trees()
    for _ in range(2_000):
        holds(mutate_structure(dice.choice(structures), structures, dice), network=True)
