"""`# ok CODE` silences warnings and notes of its line only."""

from __future__ import annotations

import pytest

from tickdsl.checks import CheckReport, check
from tickdsl.cli import main
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source

HEAD = "model small-cnn on digits\ntrain 2ep lr=0.1 batch=64 momentum=0.9\n"


def checked(text: str) -> CheckReport:
    return check(load_source(Source("x.plan", text)), network=False)


def codes(text: str) -> list[str]:
    return [d.code for d in checked(text).diagnostics]


def test_it_silences_its_line_only() -> None:
    assert codes(HEAD + "prune weights local 20% by l1; rewind lr") == ["TD505"]
    assert codes(HEAD + "prune weights local 20% by l1; rewind lr  # ok TD505") == []
    assert codes(HEAD + "prune weights local 20% by l1\nrewind lr  # ok TD505") == ["TD505", "TD014"]


@pytest.mark.parametrize("comment", ["# ok TD505, TD310", "# ok TD310 TD505", "#ok TD310,TD505 one look is enough"])
def test_several_codes(comment: str) -> None:
    assert codes(HEAD + "prune weights local 20% by l1") == ["TD310", "TD505"]
    assert codes(HEAD + f"prune weights local 20% by l1  {comment}") == []


def test_an_error_cannot_be_silenced() -> None:
    assert codes(HEAD + "prune weights local 120% by l1; rewind lr  # ok TD201") == ["TD201", "TD015"]


def test_an_unused_silence_is_reported() -> None:
    assert codes("seeds 3\n" + HEAD + "prune weights local 20% by l1; rewind lr  # ok TD505") == ["TD014"]
    assert codes(HEAD + "prune weights local 20% by l1; rewind lr  # ok TD505, TD551") == ["TD015"]


def test_unused_silences_are_not_reported_if_there_are_errors() -> None:
    assert codes("seeds 3\n" + HEAD + "prune weights local 20% by l1; rewind rl  # ok TD505") == ["TD001"]


def test_silences_of_network_findings_are_kept_without_the_network() -> None:
    assert codes("seeds 3\n" + HEAD + "prune filters global 20% by l1; rewind lr  # ok TD411") == []


@pytest.mark.parametrize("comment", ["# okay", "# ok", "# ok, this one is for the paper", "# not ok TD505"])
def test_other_comments_are_comments(comment: str) -> None:
    assert codes("seeds 3\n" + HEAD + f"prune weights local 20% by l1; rewind lr  {comment}") == []


def test_a_string_is_not_a_comment() -> None:
    assert codes(HEAD + 'prune weights local 20% by l1 except "# ok TD505"; rewind lr') == ["TD505"]


def test_strict_fails_on_warnings(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = tmp_path / "x.plan"
    plan.write_text(HEAD + "prune weights local 20% by l1; rewind lr\n")
    assert main(["check", str(plan), "--no-network"]) == 0
    assert main(["check", str(plan), "--no-network", "--strict"]) == 1
    plan.write_text("seeds 3\nprune weights local 20% by l1; rewind lr\n")
    assert main(["check", str(plan), "--no-network", "--strict"]) == 0, "notes never count"
    capsys.readouterr()
