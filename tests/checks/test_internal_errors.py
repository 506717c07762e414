"""An error of tickdsl itself is one finding, at its statement; everything else is still checked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tickdsl.checks import check, schedules
from tickdsl.cli import main
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.meaning import pipeline, questions, resolve, rewinds
from tickdsl.lang.meaning.arm_context import ArmContext
from tickdsl.lang.meaning.arm_expansion import ArmExpander
from tickdsl.lang.reading import include
from tickdsl.lang.reading.ast_builder import _Builder
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Prune, Ref, Source, Word

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
    monkeypatch.setattr(rewinds, "rewind", fail)
    found = [(d.code, d.span.text) for d in findings() if d.severity == "error"]
    assert found == [("TD017", "rewind lr to 9ep"), ("TD017", "rewind weights")]


def test_what_comes_before_an_error_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = schedules.diagnostics

    def failing_late(arm: Any) -> Iterator[Diagnostic]:
        yield from whole(arm)
        fail()

    monkeypatch.setattr(schedules, "diagnostics", failing_late)
    assert {d.code for d in findings() if d.severity == "error"} == {"TD017", "TD302"}


def test_other_arms_are_checked_if_one_cannot_be_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pipeline.prune_clauses.prune

    def for_most(statement: Prune, context: ArmContext) -> Any:
        return fail() if context.arm == "good" else whole(statement, context)

    monkeypatch.setattr(pipeline.prune_clauses, "prune", for_most)
    text = PLAN.replace("rewind weights }", "rewind lr to 99ep }") + "report nothing\n"
    errors = {d.code: d for d in findings(text) if d.severity == "error"}
    assert set(errors) == {"TD017", "TD302", "TD114"}
    assert errors["TD017"].span.text == "prune weights 20%"


def test_other_values_of_a_sweep_are_checked_if_one_cannot_be_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pipeline.prune_clauses.prune

    def for_most(statement: Prune, context: ArmContext) -> Any:
        is_first = context.reader.dereference(Ref("s", span=statement.span)) == Word("local", span=statement.span)
        return fail() if is_first else whole(statement, context)

    monkeypatch.setattr(pipeline.prune_clauses, "prune", for_most)
    found = findings("sweep s in [local, global]\nseeds 3\nprune weights $s 20%; rewind lr to 99ep\n")
    assert {d.code for d in found if d.severity == "error"} == {"TD017", "TD302"}
    assert next(d for d in found if d.code == "TD017").notes == ("with s=local",)


@pytest.mark.parametrize(
    ("module", "name", "place"),
    [
        (resolve._Resolver, "_resolve_seeds", "model"),
        (resolve.variables, "report_unused", "model"),
        (questions.QuestionResolver, "stops", "model"),
        (questions.QuestionResolver, "metrics", "model"),
        (questions.QuestionResolver, "_add_control", "compare good, wrong, dense"),
        (ArmExpander, "_used_sweeps", "arm good"),
    ],
)
def test_an_error_anywhere_leaves_the_other_checks(
    module: Any, name: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, fail)
    found = [d for d in findings(PLAN.replace("wrong\n", "wrong, dense\nlet a = $b\n")) if d.severity == "error"]
    codes = {d.code for d in found}
    assert {"TD017", "TD106"} <= codes and ("TD302" in codes or name == "_used_sweeps")
    assert next(d for d in found if d.code == "TD017").span.text.startswith(place)


def test_other_statements_are_read_if_one_cannot_be_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Builder, "seeds", fail)
    errors = {d.code: d for d in findings() if d.severity == "error"}
    assert set(errors) == {"TD017", "TD302"}
    assert errors["TD017"].span.text == "seeds 3" and "RuntimeError: out of luck" in errors["TD017"].message


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
