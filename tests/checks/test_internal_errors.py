"""An error of tickdsl itself is one finding, at its statement; everything else is still checked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tickdsl.checks import check, schedules
from tickdsl.cli import main
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.meaning import after_prune, resolve
from tickdsl.lang.reading import include
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source

PLAN = """\
model small-cnn on digits
train 4ep lr=0.1
seeds 3
arm good  { prune weights 20%; rewind lr to 9ep }
arm wrong { prune weights 30%; rewind weights }
compare good, wrong
"""


def findings(text: str = PLAN) -> list[Diagnostic]:
    return list(check(load_source(Source("x.plan", text)), network=False).diagnostics)


def fail(*arguments: Any, **options: Any) -> Any:
    raise RuntimeError("out of luck")


def test_one_arm_fails_and_the_others_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = schedules.diagnostics

    def for_most(arm: Any) -> Iterator[Diagnostic]:
        if arm.name == "wrong":
            fail()
        yield from whole(arm)

    monkeypatch.setattr(schedules, "diagnostics", for_most)
    errors = {d.code: d for d in findings() if d.severity == "error"}
    assert set(errors) == {"TD017", "TD302"}, "the other arm's error is still found"
    assert errors["TD017"].span.line == 5
    assert "RuntimeError: out of luck (test_internal_errors.py:" in errors["TD017"].message
    assert "report it" in str(errors["TD017"].help)


def test_it_is_reported_at_the_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(after_prune, "_rewind", fail)
    (found,) = [d for d in findings() if d.severity == "error"]
    assert (found.code, found.span.text) == ("TD017", "rewind lr to 9ep")


def test_what_comes_before_an_error_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = schedules.diagnostics

    def failing_late(arm: Any) -> Iterator[Diagnostic]:
        yield from whole(arm)
        fail()

    monkeypatch.setattr(schedules, "diagnostics", failing_late)
    assert {d.code for d in findings() if d.severity == "error"} == {"TD017", "TD302"}


@pytest.mark.parametrize(("module", "name"), [(include, "_Loader"), (resolve, "_Resolver"), (schedules, "diagnostics")])
def test_every_file_is_checked(
    module: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`check a b c`: exit code 1, a line for each file, and no traceback."""
    for stem in "abc":
        (tmp_path / f"{stem}.plan").write_text(PLAN)
    monkeypatch.setattr(module, name, fail)
    paths = [str(tmp_path / f"{stem}.plan") for stem in "abc"]
    assert main(["check", "--no-network", *paths]) == 1
    captured = capsys.readouterr()
    assert captured.out.count("error[TD017]") >= 3 and "Traceback" not in captured.out + captured.err
    assert all(f"{path}: " in captured.out for path in paths)
